// Package e2e tests guestd inside a real microVM, over vsock. `make e2e` sets
// GUESTD_E2E=1; without it the tests skip, and with it a machine on which no
// VM can be started is a failure.
//
// Beside the conformance suite, this machine's OpenSSH comes in by the guest's
// SSH server, and the guest is compared before and after.
//
// One VM serves all tests that do not end it.
package e2e
