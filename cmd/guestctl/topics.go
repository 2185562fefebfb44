package main

import "github.com/spf13/cobra"

// topics are the help texts that are no command's.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "How guestctl ends", Long: exitCodesHelp},
		{Use: "addresses", Short: "How an agent is named", Long: addressesHelp},
		{Use: "paths", Short: "How paths of the guest are written", Long: pathsHelp},
		{Use: "json", Short: "What --json prints", Long: jsonHelp},
	}
}

const addressesHelp = `An agent's address is given with --agent, or in GUESTD_AGENT:

  vsock:CID:PORT      AF_VSOCK of this host's kernel. CID is the guest's context
                      id, PORT is 1024 unless guestd was told otherwise:
                      vsock:3:1024
  hybrid:PATH:PORT    the unix socket that a VMM multiplexes the guest's ports
                      on (Firecracker's and Cloud Hypervisor's vsock device,
                      vhost-device-vsock): hybrid:/run/vm1.sock:1024
  unix:PATH           an ordinary unix socket, where 'guestd serve --listen
                      unix:PATH' serves: unix:/tmp/agent.sock

A guest that is still booting is waited for with --retry:

  guestctl --agent vsock:3:1024 --retry 30s info

The guest's SSH server, for 'guestctl ssh' and 'ssh-config', is at port 22 of the same
guest. One that is elsewhere, and that of an agent at unix:PATH, is given in the
same forms with --ssh-address, or in GUESTD_SSH.
`

const pathsHelp = `cp takes paths of both sides. One of the guest begins with a colon:

  :/srv/app    /srv/app in the guest
  :~ann/x      in ann's home directory
  :notes       in the home directory of the user who is asked for with -u, else
               of the agent's own user (root in a microVM)
  notes        on this machine; so is ./:notes, whose name has a colon
  -            standard input or output

For commands that know only the guest's side (ls, cat, rm, mkdir, mv, stat,
watch) the colon may be left out.

Names are bytes. Where stdout is a terminal, what is not printable in them is
escaped as in "\x1b", because whoever controls the guest chose them; otherwise they
are printed as they are.
`

const jsonHelp = `--json prints one JSON value, or, for what goes on (logs, watch, audit, forward,
ports --watch, cp with several sources), one value on a line. ls, ps, stat, ports,
grants, sessions and a wait for ends print an array. Names are stable: fields are
added, never renamed or given another meaning. Fields without a value are left out.

Times are RFC 3339 with nanoseconds, durations seconds, sizes bytes, modes octal
strings with the four digits of chmod. Names in Linux are bytes: where one is
not UTF-8 the text shows U+FFFD in their place and a second field, "raw_" before
its name, holds it in base64.

  file      name path type mode size allocated links inode uid gid owner group
            modify_time access_time change_time birth_time target
            type: file directory symlink fifo socket char_device block_device
  process   id handle pid state args script user dir terminal stdin start_time
            exit stdout stderr subscribers labels
            state: running exited; stdout, stderr: oldest end (offsets)
  exit      code signal signal_number core_dumped timed_out end_time duration
            user_time system_time max_rss output_held
            out_of_memory{scope kills peak}
            code is absent if a signal ended it
  logs      stream offset text raw_text | gap{stream offset bytes} | exit
  watch     event path old_path directory
            event: created modified closed attributes removed renamed overflow
            gone
  wait      process condition exit matched offset
            condition: exit port output file http
  cp        source destination files directories symlinks hard_links special
            bytes skipped skips{path reason} duration
  run       id handle pid
  stat -f   path total_bytes free_bytes available_bytes total_inodes free_inodes
            block_bytes type read_only
  env       an object of the variables
  ports     event network address port uid pid name process
            event, with --watch: opened closed
  forward   spec reverse network listen target
  grant     id secret fingerprint key_type user label command permissions client
            create_time expire_time max_connections used live host_key
            expire_time and max_connections are absent where there is none;
            secret and host_key are only in what grant prints
  session   id grant label user client peer start_time activity received_bytes
            sent_bytes
  audit     time event session channel grant label user client peer command
            target reason terminal bytes received_bytes sent_bytes missed
            output{offset text raw_text rows columns term}
            event: connected refused exec shell subsystem ended forward listen
            file terminal closed granted revoked
  info      agent version api_revision boot_id start_time uptime hostname
            kernel_release architecture os_id os_version cpus memory_bytes
            agent_pid agent_parent_pid vsock_cid
            capabilities{cgroup_kill cgroup_controllers switch_user features}
            metrics{processes_running processes_retained processes_started_total
            output_bytes output_bytes_limit file_handles connections
            connections_refused_total goroutines open_fds resident_bytes
            memory_available_bytes}
`
