// Plays registry.ollama.ai for the pods of the tests: manifests and blobs, by TLS, out of a folder as Ollama keeps its models.
//
//	registry certificate DIR   writes DIR/ca.crt, DIR/tls.crt and DIR/tls.key, made for this one run
//	registry serve MODELS DIR  serves the models of the folder MODELS with the certificate of DIR, on port 8443
//
// The invariant: it only reads, and only below MODELS.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const name = "registry.ollama.ai"

var (
	manifest = regexp.MustCompile(`^/v2/library/([a-z0-9.-]+)/manifests/([a-z0-9.-]+)$`)
	blob     = regexp.MustCompile(`^/v2/library/[a-z0-9.-]+/blobs/sha256:([0-9a-f]{64})$`)
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "certificate":
		certificate(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "serve":
		serve(os.Args[2], os.Args[3])
	default:
		log.Fatal("usage: registry certificate DIR | registry serve MODELS DIR")
	}
}

func serve(models, keys string) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		log.Print(r.Method, " ", r.URL.Path)
		file := ""
		if m := manifest.FindStringSubmatch(r.URL.Path); m != nil {
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			file = filepath.Join(models, "manifests", name, "library", m[1], m[2])
		} else if b := blob.FindStringSubmatch(r.URL.Path); b != nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			// The client asks where a blob really is before it asks for its parts.
			w.Header().Set("Location", "https://"+name+r.URL.Path)
			file = filepath.Join(models, "blobs", "sha256-"+b[1])
		}
		opened, err := os.Open(file)
		if err != nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, http.StatusNotFound)
			return
		}
		defer opened.Close()
		http.ServeContent(w, r, "", time.Time{}, opened)
	}
	server := http.Server{Addr: ":8443", Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServeTLS(filepath.Join(keys, "tls.crt"), filepath.Join(keys, "tls.key")))
}

func certificate(dir string) {
	authority, server := key(), key()
	from, until := time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test registry"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER := must(x509.CreateCertificate(rand.Reader, root, root, &authority.PublicKey, authority))
	leafDER := must(x509.CreateCertificate(rand.Reader, leaf, root, &server.PublicKey, authority))
	write(filepath.Join(dir, "ca.crt"), "CERTIFICATE", rootDER)
	write(filepath.Join(dir, "tls.crt"), "CERTIFICATE", leafDER)
	write(filepath.Join(dir, "tls.key"), "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(server)))
}

func key() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func write(path, kind string, der []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
