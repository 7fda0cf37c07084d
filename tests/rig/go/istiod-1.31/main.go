// istiod runs Istio's control plane (pilot/pkg/bootstrap) on a machine without Kubernetes.
//
// Since 1.30 istiod cannot start without a Kubernetes client. Istio's own bootstrap tests give it one that lives in
// memory, by setting an unexported field of the server; this command does the same from outside, by reflection.
// Nothing else of Istio is changed.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metadatafake "k8s.io/client-go/metadata/fake"

	"istio.io/istio/pilot/pkg/bootstrap"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/log"
)

func main() {
	if err := run(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

func run() error {
	args, err := arguments()
	if err != nil {
		return err
	}
	client, err := memoryCluster("istio-system", "default")
	if err != nil {
		return err
	}
	server, err := bootstrap.NewServer(args, func(s *bootstrap.Server) { setKubeClient(s, client) })
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if err := server.Start(ctx.Done()); err != nil {
		return err
	}
	<-ctx.Done()
	server.WaitUntilCompletion()
	return nil
}

func arguments() (*bootstrap.PilotArgs, error) {
	args := bootstrap.NewPilotArgs(func(p *bootstrap.PilotArgs) {
		flag.StringVar(&p.MeshConfigFile, "meshConfig", "mesh.yaml", "mesh configuration file")
		flag.StringVar(&p.ServerOptions.HTTPAddr, "httpAddr", "127.0.0.1:18080", "readiness")
		flag.StringVar(&p.ServerOptions.GRPCAddr, "grpcAddr", "127.0.0.1:15010", "plaintext xDS")
		flag.StringVar(&p.ServerOptions.MonitoringAddr, "monitoringAddr", "127.0.0.1:15014", "metrics and debug")
		flag.Parse()
		p.NetworksConfigFile = "/nonexistent"
		p.ShutdownDuration = time.Second
		p.ServerOptions.TLSOptions = bootstrap.TLSOptions{TLSMinVersion: bootstrap.TLSMinVersion1_2}
		p.RegistryOptions.KubeOptions.DomainSuffix = constants.DefaultClusterLocalDomain
		p.RegistryOptions.KubeOptions.ClusterID = "Kubernetes"
	})
	return args, args.Complete()
}

// memoryCluster holds the namespaces and Istio's custom resource definitions: istiod reads a kind only once its
// definition is there.
func memoryCluster(namespaces ...string) (kube.Client, error) {
	ctx := context.Background()
	client := kube.NewFakeClient()
	for _, name := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := client.Kube().CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	metadata := client.Metadata().(*metadatafake.FakeMetadataClient)
	definitions := metadata.Resource(gvr.CustomResourceDefinition).(metadatafake.MetadataClient)
	for _, schema := range collections.Pilot.All() {
		kind := schema.GroupVersionResource()
		definition := &metav1.PartialObjectMetadata{
			ObjectMeta: metav1.ObjectMeta{Name: kind.Resource + "." + kind.Group},
		}
		if _, err := definitions.CreateFake(definition, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return client, nil
}

func setKubeClient(server *bootstrap.Server, client kube.Client) {
	field := reflect.ValueOf(server).Elem().FieldByName("kubeClient")
	if !field.IsValid() {
		panic("bootstrap.Server has no field kubeClient any more")
	}
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(client))
}
