//go:build linux

package agent

import (
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// register puts every service on the gRPC server. Reflection comes last: it
// describes the others.
func (s *Server) register() {
	healthv1.RegisterHealthServer(s.grpc, s.health)
	guestdv1.RegisterFileServiceServer(s.grpc,
		newFileService(s.config.Files, s.config.Processes.BootID(), s.pool))
	reflection.RegisterV1(s.grpc)
}
