//go:build !unix

package client

// oNoFollow is nothing where no such flag is.
const oNoFollow = 0
