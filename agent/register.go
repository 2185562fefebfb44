//go:build linux

package agent

import (
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/guestd/guestd/internal/reflection"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// register puts every service on the gRPC server. Reflection comes last: it
// describes the others. quit is closed when everything must end.
func (s *Server) register(quit <-chan struct{}) {
	healthv1.RegisterHealthServer(s.grpc, s.health)
	files := newFileService(s.config.Files, s.config.Processes.BootID(), s.pool)
	guestdv1.RegisterFileServiceServer(s.grpc, files)
	guestdv1.RegisterProcessServiceServer(s.grpc, &processService{
		table: s.config.Processes, pool: s.pool, ports: s.ports, background: &s.calls, quit: quit,
	})
	guestdv1.RegisterAccessServiceServer(s.grpc, &accessService{store: s.config.Access})
	guestdv1.RegisterNetServiceServer(s.grpc, &netService{
		files: s.config.Files, table: s.config.Processes, pool: s.pool, ports: s.ports, background: &s.calls,
	})
	guestdv1.RegisterSystemServiceServer(s.grpc, newSystemService(s, files.handles))
	reflection.Register(s.grpc)
}
