//go:build unix

package client

import (
	"fmt"
	"io/fs"
	"syscall"
)

// ownerOf returns the WriteOptions.Owner that a local file asks for.
func ownerOf(info fs.FileInfo, owners Owners) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owners == OwnersUser {
		return ""
	}
	owner, group := "", ""
	if owners == OwnersNames {
		owner, group = userName(st.Uid), groupName(st.Gid)
	}
	if owner == "" {
		owner = fmt.Sprint(st.Uid)
	}
	if group == "" {
		group = fmt.Sprint(st.Gid)
	}
	return owner + ":" + group
}
