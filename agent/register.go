//go:build linux

package agent

import (
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// register puts every service on the gRPC server. Reflection comes last: it
// describes the others.
func (s *Server) register() {
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.RegisterV1(s.grpc)
}
