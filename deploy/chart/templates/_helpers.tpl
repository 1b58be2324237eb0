{{/* The labels of every object. Helm adds its own managed-by label where it installs, so a rendered manifest doesn't claim it. */}}
{{- define "llm-guard.labels" -}}
app.kubernetes.io/name: llm-guard-injector
app.kubernetes.io/part-of: llm-guard
app.kubernetes.io/component: injector
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* The labels that select the injector's pods. They can't change: a Deployment's selector is immutable. */}}
{{- define "llm-guard.selector" -}}
app.kubernetes.io/name: llm-guard-injector
{{- end }}

{{/* An image's reference: a list of the root context and the image's values. */}}
{{- define "llm-guard.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{/* CEL: whether a key of labels or annotations is llm-guard's. */}}
{{- define "llm-guard.cel.key" -}}
(key == 'llm-guard' || key.startsWith('llm-guard.io/'))
{{- end }}

{{/* CEL: a workload's template for pods, as far as there is one; the name of the variable that holds the workload. */}}
{{- define "llm-guard.cel.template" -}}
(request.kind.kind == 'CronJob' ? {{ . }}.?spec.?jobTemplate.?spec.?template : {{ . }}.?spec.?template)
{{- end }}

{{/* CEL: whether a controller of Kubernetes itself asks, by the names that it has with accounts of its own and without. */}}
{{- define "llm-guard.cel.controller" -}}
request.userInfo.username == 'system:kube-controller-manager' || request.userInfo.username in ['deployment-controller',
          'replicaset-controller', 'statefulset-controller', 'daemon-set-controller', 'job-controller', 'cronjob-controller',
          'replication-controller'].map(name, 'system:serviceaccount:kube-system:' + name)
{{- end }}

{{/* Where the API server finds the injector: a list of the root context and the path. */}}
{{- define "llm-guard.client" -}}
clientConfig:
  service:
    name: llm-guard-injector
    namespace: {{ (index . 0).Release.Namespace }}
    port: 443
    path: {{ index . 1 }}
admissionReviewVersions: [v1]
timeoutSeconds: 10
{{- end }}

{{/* Namespaces that no webhook looks into: the injector's own, which would wait for itself, and the cluster's. */}}
{{- define "llm-guard.otherNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, {{ .Release.Namespace }}]
{{- end }}
