// Package node has tests that need Node.js: independent checks of openapi.yaml and of the answers of a running instance, and a TypeScript client
// that is made from openapi.yaml. `make test-node` installs what package-lock.json names, and runs them.
package node
