package reflection_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	library "google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/guestd/guestd/internal/reflection"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const patience = time.Minute

// serve serves a few services and what register adds, and returns a connection.
func serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	guestdv1.RegisterFileServiceServer(s, guestdv1.UnimplementedFileServiceServer{})
	guestdv1.RegisterAccessServiceServer(s, guestdv1.UnimplementedAccessServiceServer{})
	register(s)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends all questions over one stream and returns the answers.
func ask(t *testing.T, conn *grpc.ClientConn, questions []*reflectionv1.ServerReflectionRequest) []*reflectionv1.ServerReflectionResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var answers []*reflectionv1.ServerReflectionResponse
	for _, q := range questions {
		if err := stream.Send(q); err != nil {
			t.Fatal(err)
		}
		a, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v: %v", q, err)
		}
		answers = append(answers, a)
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	return answers
}

func byName(name string) *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{Host: "h", MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: name}}
}

func bySymbol(name protoreflect.FullName) *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(name)}}
}

func byExtension(message string, number int32) *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingExtension{
		FileContainingExtension: &reflectionv1.ExtensionRequest{ContainingType: message, ExtensionNumber: number},
	}}
}

func extensions(message string) *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_AllExtensionNumbersOfType{AllExtensionNumbersOfType: message}}
}

func services() *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
}

// questions are all that there is to ask, and some about what there is not.
func questions() []*reflectionv1.ServerReflectionRequest {
	all := []*reflectionv1.ServerReflectionRequest{
		services(), byName("no/such.proto"), byName(""), bySymbol("no.such.Symbol"), bySymbol(""), bySymbol("..."),
		byExtension("google.protobuf.FeatureSet", 1002), byExtension("google.protobuf.FeatureSet", 5), byExtension("no.such.Message", 1),
		extensions("google.protobuf.FeatureSet"), extensions("guestd.v1.StatRequest"), extensions("no.such.Message"),
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		all = append(all, byName(file.Path()))
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			all = append(all, bySymbol(m.FullName()), bySymbol(m.FullName()+".no_such_field"))
			if m.Fields().Len() > 0 {
				all = append(all, bySymbol(m.Fields().Get(0).FullName()))
			}
		}
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			all = append(all, bySymbol(s.FullName()))
			for j := range s.Methods().Len() {
				all = append(all, bySymbol(s.Methods().Get(j).FullName()))
			}
		}
		for i := range file.Enums().Len() {
			all = append(all, bySymbol(file.Enums().Get(i).FullName()))
		}
		return true
	})
	return all
}

// equal compares two answers, files by what they say.
func equal(t *testing.T, a, b *reflectionv1.ServerReflectionResponse) bool {
	t.Helper()
	fa, fb := a.GetFileDescriptorResponse(), b.GetFileDescriptorResponse()
	if fa == nil || fb == nil {
		return proto.Equal(a, b)
	}
	if len(fa.GetFileDescriptorProto()) != len(fb.GetFileDescriptorProto()) {
		return false
	}
	for i, raw := range fa.GetFileDescriptorProto() {
		if !proto.Equal(parse(t, raw), parse(t, fb.GetFileDescriptorProto()[i])) {
			return false
		}
	}
	return proto.Equal(a.GetOriginalRequest(), b.GetOriginalRequest()) && a.GetValidHost() == b.GetValidHost()
}

func parse(t *testing.T, raw []byte) *descriptorpb.FileDescriptorProto {
	t.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return &file
}

// Every answer is that of grpc-go's own reflection server, on a stream that has
// had answers before and on a new one.
func TestLikeLibrary(t *testing.T) {
	ours, theirs := serve(t, reflection.Register), serve(t, func(s *grpc.Server) { library.Register(s) })
	all := questions()
	if len(all) < 500 {
		t.Fatalf("only %d questions", len(all))
	}
	compare := func(questions []*reflectionv1.ServerReflectionRequest) {
		t.Helper()
		got, want := ask(t, ours, questions), ask(t, theirs, questions)
		for i := range questions {
			if !equal(t, got[i], want[i]) {
				t.Errorf("%v:\n%.300v, library:\n%.300v", questions[i], got[i], want[i])
			}
		}
	}
	compare(all)
	// Each is a stream of its own: not all of them.
	for i := 0; i < len(all); i += 20 {
		compare(all[i : i+1])
	}
}

// What the answers give is enough to build every service, as grpcurl does.
func TestComplete(t *testing.T) {
	conn := serve(t, reflection.Register)
	for _, s := range ask(t, conn, []*reflectionv1.ServerReflectionRequest{services()})[0].GetListServicesResponse().GetService() {
		var set descriptorpb.FileDescriptorSet
		for _, raw := range ask(t, conn, []*reflectionv1.ServerReflectionRequest{bySymbol(protoreflect.FullName(s.GetName()))})[0].GetFileDescriptorResponse().GetFileDescriptorProto() {
			set.File = append(set.File, parse(t, raw))
		}
		files, err := protodesc.NewFiles(&set)
		if err != nil {
			t.Errorf("%s: %v", s.GetName(), err)
			continue
		}
		if _, err := files.FindDescriptorByName(protoreflect.FullName(s.GetName())); err != nil {
			t.Errorf("%s: %v", s.GetName(), err)
		}
	}
}

// The forerunner answers the same in its own messages.
func TestV1Alpha(t *testing.T) {
	conn := serve(t, reflection.Register)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := reflectionv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var asked []*reflectionv1.ServerReflectionRequest
	var want []*reflectionv1.ServerReflectionResponse
	for _, q := range questions() {
		var old reflectionv1alpha.ServerReflectionRequest //nolint:staticcheck // SA1019: that it is deprecated is why it is tested
		convert(t, q, &old)
		if err := stream.Send(&old); err != nil {
			t.Fatal(err)
		}
		a, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v: %v", q, err)
		}
		var got reflectionv1.ServerReflectionResponse
		convert(t, a, &got)
		want = append(want, &got)
		asked = append(asked, q)
	}
	for i, got := range ask(t, conn, asked) {
		if !equal(t, got, want[i]) {
			t.Errorf("%v: %.300v, v1alpha: %.300v", asked[i], got, want[i])
		}
	}
}

func convert(t *testing.T, from, to proto.Message) {
	t.Helper()
	raw, err := proto.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, to); err != nil {
		t.Fatal(err)
	}
	if len(to.ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%v is not whole in the other version", from)
	}
}

// A question without a question ends the stream, as the library has it.
func TestNoQuestion(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(serve(t, reflection.Register)).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}
