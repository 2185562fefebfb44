// Package reflection serves the gRPC server reflection protocol, by which
// grpcurl and its like learn what an agent can do.
//
// grpc-go's own package costs even an agent that nobody asks: it builds
// descriptors from parsed ones, and for that links the descriptor of descriptors
// and parses it at every start, which takes a millisecond and half a megabyte.
// Generated code holds every descriptor as the compiler wrote it; this package
// passes those on.
package reflection

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Register puts grpc.reflection.v1 and its forerunner v1alpha on s, which are
// the same but for their names. They tell of all services that s has at the
// time of the question, and of all types that are linked.
func Register(s *grpc.Server) {
	srv := &server{services: s.GetServiceInfo}
	reflectionv1.RegisterServerReflectionServer(s, srv)
	// The tools of some languages know no other.
	old := reflectionv1.ServerReflection_ServiceDesc
	old.ServiceName = reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName
	old.Metadata = reflectionv1alpha.ServerReflection_ServiceDesc.Metadata
	s.RegisterService(&old, srv)
}

type server struct {
	reflectionv1.UnimplementedServerReflectionServer

	services func() map[string]grpc.ServiceInfo
}

// ServerReflectionInfo answers one question after the other. A file goes over a
// stream once, unless it is asked for by name again.
func (s *server) ServerReflectionInfo(stream reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	sent := make(map[string]bool)
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out := &reflectionv1.ServerReflectionResponse{ValidHost: in.GetHost(), OriginalRequest: in}
		if err := s.answer(in, out, sent); err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// answer completes out. Its error ends the stream; that nothing was found is
// an answer.
func (s *server) answer(in *reflectionv1.ServerReflectionRequest, out *reflectionv1.ServerReflectionResponse, sent map[string]bool) error {
	switch q := in.GetMessageRequest().(type) {
	case *reflectionv1.ServerReflectionRequest_ListServices:
		out.MessageResponse = &reflectionv1.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: s.list()}
		return nil
	case *reflectionv1.ServerReflectionRequest_FileByFilename:
		file, err := protoregistry.GlobalFiles.FindFileByPath(q.FileByFilename)
		return answerFiles(out, file, err, sent)
	case *reflectionv1.ServerReflectionRequest_FileContainingSymbol:
		symbol, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(q.FileContainingSymbol))
		return answerFiles(out, fileOf(symbol), err, sent)
	case *reflectionv1.ServerReflectionRequest_FileContainingExtension:
		var file protoreflect.FileDescriptor
		message := protoreflect.FullName(q.FileContainingExtension.GetContainingType())
		number := protoreflect.FieldNumber(q.FileContainingExtension.GetExtensionNumber())
		ext, err := protoregistry.GlobalTypes.FindExtensionByNumber(message, number)
		if err == nil {
			file = ext.TypeDescriptor().ParentFile()
		}
		return answerFiles(out, file, err, sent)
	case *reflectionv1.ServerReflectionRequest_AllExtensionNumbersOfType:
		answerExtensions(out, q.AllExtensionNumbersOfType)
		return nil
	default:
		return status.Error(codes.InvalidArgument, "the request asks for nothing that this server knows")
	}
}

func (s *server) list() *reflectionv1.ListServiceResponse {
	var list reflectionv1.ListServiceResponse
	for _, name := range slices.Sorted(maps.Keys(s.services())) {
		list.Service = append(list.Service, &reflectionv1.ServiceResponse{Name: name})
	}
	return &list
}

// answerExtensions answers with the numbers of all known extensions of a
// message, which may be none.
func answerExtensions(out *reflectionv1.ServerReflectionResponse, message string) {
	list := &reflectionv1.ExtensionNumberResponse{BaseTypeName: message}
	protoregistry.GlobalTypes.RangeExtensionsByMessage(protoreflect.FullName(message), func(x protoreflect.ExtensionType) bool {
		list.ExtensionNumber = append(list.ExtensionNumber, int32(x.TypeDescriptor().Number()))
		return true
	})
	if len(list.ExtensionNumber) == 0 {
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(message)); err != nil {
			notFound(out, err)
			return
		}
	}
	slices.Sort(list.ExtensionNumber)
	out.MessageResponse = &reflectionv1.ServerReflectionResponse_AllExtensionNumbersResponse{AllExtensionNumbersResponse: list}
}

// answerFiles answers with file and what it imports, as far as sent has not got
// it, or says that err is why there is none.
func answerFiles(out *reflectionv1.ServerReflectionResponse, file protoreflect.FileDescriptor, err error, sent map[string]bool) error {
	if err != nil {
		notFound(out, err)
		return nil
	}
	delete(sent, file.Path())
	list := &reflectionv1.FileDescriptorResponse{}
	for queue := []protoreflect.FileDescriptor{file}; len(queue) > 0; queue = queue[1:] {
		file := queue[0]
		if sent[file.Path()] || file.IsPlaceholder() {
			continue
		}
		sent[file.Path()] = true
		raw, err := rawDescriptor(file)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		list.FileDescriptorProto = append(list.FileDescriptorProto, raw)
		imports := file.Imports()
		for i := range imports.Len() {
			queue = append(queue, imports.Get(i).FileDescriptor)
		}
	}
	out.MessageResponse = &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: list}
	return nil
}

func notFound(out *reflectionv1.ServerReflectionResponse, err error) {
	out.MessageResponse = &reflectionv1.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflectionv1.ErrorResponse{
		ErrorCode: int32(codes.NotFound), ErrorMessage: err.Error(),
	}}
}

// fileOf returns the file that defines d, or nil for nil.
func fileOf(d protoreflect.Descriptor) protoreflect.FileDescriptor {
	if d == nil {
		return nil
	}
	return d.ParentFile()
}

// rawDescriptor returns a file's FileDescriptorProto in wire format. The
// generated code hands it out, compressed, by way of the file's types.
func rawDescriptor(file protoreflect.FileDescriptor) ([]byte, error) {
	var compressed []byte
	switch {
	case file.Messages().Len() > 0:
		t, err := protoregistry.GlobalTypes.FindMessageByName(file.Messages().Get(0).FullName())
		if err != nil {
			return nil, err
		}
		if m, ok := t.Zero().Interface().(interface{ Descriptor() ([]byte, []int) }); ok {
			compressed, _ = m.Descriptor()
		}
	case file.Enums().Len() > 0:
		t, err := protoregistry.GlobalTypes.FindEnumByName(file.Enums().Get(0).FullName())
		if err != nil {
			return nil, err
		}
		if e, ok := t.New(0).(interface{ EnumDescriptor() ([]byte, []int) }); ok {
			compressed, _ = e.EnumDescriptor()
		}
	}
	if compressed == nil {
		return nil, fmt.Errorf("no generated type of %s holds its descriptor", file.Path())
	}
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
