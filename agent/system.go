//go:build linux

package agent

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// apiRevision is GetInfoResponse.api_revision: raise it with whatever is added
// to proto/guestd/v1.
const apiRevision = 4

// systemService is SystemService.
type systemService struct {
	guestdv1.UnimplementedSystemServiceServer

	server  *Server
	handles *fileHandles
	// fixed is what never changes. GetInfo then takes no lock: an answer means
	// alive, however busy the process table is.
	fixed *guestdv1.GetInfoResponse
}

// newSystemService gathers what never changes.
func newSystemService(s *Server, handles *fileHandles) *systemService {
	table := s.config.Processes
	can := table.Capabilities()
	osID, osVersion := osRelease("/etc/os-release", "/usr/lib/os-release")
	return &systemService{server: s, handles: handles, fixed: &guestdv1.GetInfoResponse{
		Version:       s.config.Version,
		ApiRevision:   apiRevision,
		BootId:        table.BootID(),
		StartTime:     timestamppb.New(s.start),
		KernelRelease: kernelRelease(),
		Architecture:  runtime.GOARCH,
		OsId:          osID,
		OsVersion:     osVersion,
		Capabilities: &guestdv1.Capabilities{
			CgroupKill:        can.CgroupKill,
			CgroupControllers: can.Controllers,
			SwitchUser:        os.Geteuid() == 0,
			Features:          s.config.Features,
		},
		AgentPid: uint32(os.Getpid()),
	}}
}

// GetInfo describes the agent and the machine.
func (s *systemService) GetInfo(context.Context, *guestdv1.GetInfoRequest) (*guestdv1.GetInfoResponse, error) {
	f := s.fixed
	resp := &guestdv1.GetInfoResponse{
		Version: f.Version, ApiRevision: f.ApiRevision, BootId: f.BootId, StartTime: f.StartTime,
		KernelRelease: f.KernelRelease, Architecture: f.Architecture,
		OsId: f.OsId, OsVersion: f.OsVersion, Capabilities: f.Capabilities,
		AgentPid: f.AgentPid, AgentParentPid: uint32(os.Getppid()),
		Cpus: uint32(runtime.NumCPU()),
	}
	if name, err := os.Hostname(); err == nil {
		resp.Hostname = readable(name)
	}
	var since unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &since) == nil {
		resp.Uptime = durationpb.New(time.Duration(since.Nano()))
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		resp.MemoryBytes = info.Totalram * uint64(info.Unit)
	}
	if find := s.server.config.VsockCID; find != nil {
		if cid, ok := find(); ok {
			resp.VsockCid = &cid
		}
	}
	return resp, nil
}

// GetMetrics counts what there is at this moment.
func (s *systemService) GetMetrics(context.Context, *guestdv1.GetMetricsRequest) (*guestdv1.GetMetricsResponse, error) {
	stats := s.server.config.Processes.Stats()
	resp := &guestdv1.GetMetricsResponse{
		ProcessesRunning:      uint32(stats.Running),
		ProcessesRetained:     uint32(stats.Retained + stats.Lingering),
		ProcessesStartedTotal: stats.Started,
		OutputBytes:           uint64(max(0, stats.RingBytes)),
		OutputBytesLimit:      uint64(max(0, stats.RingLimit)),
		FileHandles:           uint32(s.handles.count()),
		Connections:           uint32(s.server.conns.count()),
		Goroutines:            uint32(runtime.NumGoroutine()),
		OpenFds:               openDescriptors(),
		ResidentBytes:         residentBytes(),
		MemoryAvailableBytes:  memoryAvailable(),
	}
	if refused := s.server.config.Refused; refused != nil {
		resp.ConnectionsRefusedTotal = refused()
	}
	return resp, nil
}

// BootID is the identity of this boot of the machine, or "" if the kernel does
// not tell, as in some namespaces without /proc.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// kernelRelease is what uname -r prints.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return readable(unix.ByteSliceToString(u.Release[:]))
}

// osRelease reads ID and VERSION_ID from the first file that is there; see
// os-release(5).
func osRelease(paths ...string) (id, version string) {
	for _, path := range paths {
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			continue
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			key, value, _ := strings.Cut(lines.Text(), "=")
			value = readable(strings.Trim(value, `"'`))
			switch key {
			case "ID":
				id = value
			case "VERSION_ID":
				version = value
			}
		}
		return id, version
	}
	return "", ""
}

// openDescriptors counts the agent's descriptors, without the one it counts them by.
func openDescriptors() uint32 {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil || len(names) == 0 {
		return 0
	}
	return uint32(len(names) - 1)
}

// residentBytes is the second number of /proc/self/statm, in pages.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// memoryAvailable is MemAvailable of /proc/meminfo.
func memoryAvailable() uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		value, ok := bytes.CutPrefix(line, []byte("MemAvailable:"))
		if !ok {
			continue
		}
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			return 0
		}
		kib, err := strconv.ParseUint(string(fields[0]), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}
