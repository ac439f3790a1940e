// Package modules provides the adapters to applications of fx, each as a module. An application, such as cmd/outboxie, supplies the options of a
// module and takes what it provides. The adapters themselves do not know fx, so that package outboxie, which uses them, does not bring fx
// into other people's programs.
package modules
