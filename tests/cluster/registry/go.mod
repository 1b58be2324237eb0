module llm-guard.io/tests/registry

go 1.21
