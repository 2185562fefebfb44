package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func newInfo(a *app) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Describe the agent and its machine",
		Long: `Describe the agent, the machine that it runs in, what both can do, and what the
agent holds at this moment.`,
		Example: `  guestctl info
  guestctl --retry 30s info --json | jq .boot_id`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.info(cmd.Context(), json) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	jsonFlag(cmd, &json)
	return cmd
}

// jsonInfo is what info --json prints.
type jsonInfo struct {
	Agent         string      `json:"agent"`
	Version       string      `json:"version"`
	APIRevision   uint32      `json:"api_revision"`
	BootID        string      `json:"boot_id"`
	StartTime     time.Time   `json:"start_time,omitzero"`
	Uptime        float64     `json:"uptime"`
	Hostname      string      `json:"hostname"`
	KernelRelease string      `json:"kernel_release"`
	Architecture  string      `json:"architecture"`
	OSID          string      `json:"os_id,omitempty"`
	OSVersion     string      `json:"os_version,omitempty"`
	CPUs          uint32      `json:"cpus"`
	MemoryBytes   uint64      `json:"memory_bytes"`
	AgentPID      uint32      `json:"agent_pid"`
	ParentPID     uint32      `json:"agent_parent_pid"`
	VsockCID      *uint32     `json:"vsock_cid,omitempty"`
	Capabilities  jsonAbility `json:"capabilities"`
	Metrics       jsonMetrics `json:"metrics"`
}

type jsonAbility struct {
	CgroupKill        bool     `json:"cgroup_kill"`
	CgroupControllers []string `json:"cgroup_controllers"`
	SwitchUser        bool     `json:"switch_user"`
	Features          []string `json:"features"`
}

type jsonMetrics struct {
	ProcessesRunning        uint32 `json:"processes_running"`
	ProcessesRetained       uint32 `json:"processes_retained"`
	ProcessesStartedTotal   uint64 `json:"processes_started_total"`
	OutputBytes             uint64 `json:"output_bytes"`
	OutputBytesLimit        uint64 `json:"output_bytes_limit"`
	FileHandles             uint32 `json:"file_handles"`
	Connections             uint32 `json:"connections"`
	ConnectionsRefusedTotal uint64 `json:"connections_refused_total"`
	Goroutines              uint32 `json:"goroutines"`
	OpenFDs                 uint32 `json:"open_fds"`
	ResidentBytes           uint64 `json:"resident_bytes"`
	MemoryAvailableBytes    uint64 `json:"memory_available_bytes"`
}

func (a *app) info(ctx context.Context, json bool) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	metrics, err := c.Metrics(ctx)
	if err != nil {
		return err
	}
	j := newJSONInfo(c.Name(), info, metrics)
	if json {
		return a.printJSON(j)
	}
	out := a.page()
	printInfo(out, &j)
	return out.Flush()
}

func newJSONInfo(agent string, i *guestdv1.GetInfoResponse, m *guestdv1.GetMetricsResponse) jsonInfo {
	can := i.GetCapabilities()
	j := jsonInfo{
		Agent:         agent,
		Version:       i.GetVersion(),
		APIRevision:   i.GetApiRevision(),
		BootID:        i.GetBootId(),
		Uptime:        i.GetUptime().AsDuration().Seconds(),
		Hostname:      i.GetHostname(),
		KernelRelease: i.GetKernelRelease(),
		Architecture:  i.GetArchitecture(),
		OSID:          i.GetOsId(),
		OSVersion:     i.GetOsVersion(),
		CPUs:          i.GetCpus(),
		MemoryBytes:   i.GetMemoryBytes(),
		AgentPID:      i.GetAgentPid(),
		ParentPID:     i.GetAgentParentPid(),
		VsockCID:      i.VsockCid,
		Capabilities: jsonAbility{
			CgroupKill:        can.GetCgroupKill(),
			CgroupControllers: append([]string{}, can.GetCgroupControllers()...),
			SwitchUser:        can.GetSwitchUser(),
			Features:          append([]string{}, can.GetFeatures()...),
		},
		Metrics: jsonMetrics{
			ProcessesRunning:        m.GetProcessesRunning(),
			ProcessesRetained:       m.GetProcessesRetained(),
			ProcessesStartedTotal:   m.GetProcessesStartedTotal(),
			OutputBytes:             m.GetOutputBytes(),
			OutputBytesLimit:        m.GetOutputBytesLimit(),
			FileHandles:             m.GetFileHandles(),
			Connections:             m.GetConnections(),
			ConnectionsRefusedTotal: m.GetConnectionsRefusedTotal(),
			Goroutines:              m.GetGoroutines(),
			OpenFDs:                 m.GetOpenFds(),
			ResidentBytes:           m.GetResidentBytes(),
			MemoryAvailableBytes:    m.GetMemoryAvailableBytes(),
		},
	}
	if i.GetStartTime() != nil {
		j.StartTime = i.GetStartTime().AsTime()
	}
	return j
}

func printInfo(w *bufio.Writer, j *jsonInfo) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", what+":", escape(fmt.Sprintf(format, args...)))
	}
	line("Agent", "%s at %s, API revision %d, pid %d", j.Version, j.Agent, j.APIRevision, j.AgentPID)
	line("Host name", "%s", j.Hostname)
	line("System", "%s", strings.TrimSpace(strings.Join([]string{j.OSID, j.OSVersion, "Linux", j.KernelRelease, j.Architecture}, " ")))
	line("CPUs", "%d", j.CPUs)
	line("Memory", "%s, %s available", formatUnsigned(j.MemoryBytes), formatUnsigned(j.Metrics.MemoryAvailableBytes))
	line("Up for", "%s", time.Duration(j.Uptime*float64(time.Second)).Round(time.Second))
	line("Boot id", "%s", j.BootID)
	if j.VsockCID != nil {
		line("Vsock CID", "%d", *j.VsockCID)
	}
	line("Tree kill", "%s", choose(j.Capabilities.CgroupKill, "complete, by cgroup", "the session's processes: no cgroup2"))
	line("Limits", "%s", choose(len(j.Capabilities.CgroupControllers) > 0, strings.Join(j.Capabilities.CgroupControllers, " "), "none: no cgroup2 controllers"))
	line("Other users", "%s", choose(j.Capabilities.SwitchUser, "yes", "no: the agent is not root"))
	if len(j.Capabilities.Features) > 0 {
		line("Features", "%s", strings.Join(j.Capabilities.Features, " "))
	}
	m := &j.Metrics
	line("Processes", "%d running, %d ended and kept, %d started", m.ProcessesRunning, m.ProcessesRetained, m.ProcessesStartedTotal)
	line("Output kept", "%s of at most %s", formatUnsigned(m.OutputBytes), formatUnsigned(m.OutputBytesLimit))
	line("Connections", "%d, %d refused; %d open file handles", m.Connections, m.ConnectionsRefusedTotal, m.FileHandles)
	line("Agent uses", "%s, %d file descriptors", formatUnsigned(m.ResidentBytes), m.OpenFDs)
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
