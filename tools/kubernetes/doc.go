// Package kubernetes has only tests: they check the manifests in docker/kubernetes.
package kubernetes
