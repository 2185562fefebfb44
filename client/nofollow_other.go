//go:build !unix

package client

// oNoFollow is no flag: this system has none.
const oNoFollow = 0
