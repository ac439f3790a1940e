// Package node has tests that need Node.js: independent checks of openapi.yaml, and a TypeScript client that is made from it and used against
// a running instance. `make test-node` installs what package-lock.json names, and runs them.
package node
