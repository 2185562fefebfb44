// Package sparse is what guest and host share about files with holes: where the
// holes are, and how the zeros that they stand for are summed up.
package sparse

// worthFrom is the size below which holes are not looked for: telling them costs
// more than their zeros.
const worthFrom = 64 << 10

// Worth reports whether holes are worth looking for in a file of size bytes that
// takes so many blocks of 512 bytes. If not, the file has none to speak of.
func Worth(size, blocks int64) bool { return size >= worthFrom && blocks < size/512 }
