// Package tde encrypts and decrypts what servers keep encrypted at rest: pages, blocks
// of the redo log, binary logs. It gets keys, and never looks for them: see package
// keyring.
package tde
