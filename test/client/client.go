// Package client is what a client team would generate from openapi.yaml: the end-to-end tests speak to the program with it.
package client

//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -config oapi-codegen.yaml ../../internal/adapters/httpapi/openapi.yaml
