package main

import "strings"

// guestPath is the path of an operand that can only be the guest's: the colon
// before it is optional.
func guestPath(operand string) string { return strings.TrimPrefix(operand, ":") }

// baseName is the last element of a path of either side; "" for one that does
// not end in a name: "/", "." and "..".
func baseName(path string) string {
	path = strings.TrimRight(path, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "." || name == ".." || name == "~" && name == path {
		return ""
	}
	return name
}

// joinGuest puts a name into a directory of the guest.
func joinGuest(dir, name string) string {
	if dir == "" {
		return name
	}
	return strings.TrimSuffix(dir, "/") + "/" + name
}
