// adsprobe is Istio's own ADS client (pkg/adsc) with Istio's own validating store behind it, set up as istiod sets it
// up for an xds:// configSource. It stands in for istiod where a test asks what istiod's store would hold.
//
//	adsprobe HOST:PORT
//
// One JSON line on stdout for each event, until a signal ends it:
//
//	response                 a discovery response came: type, count, version, nonce, bytes
//	add, update, remove      the store took a change: kind, name, version, created, labels, annotations, spec
//	rejected                 the store refused a change: op, error, and the same fields
//	synced                   every type that istiod waits for was answered
//	end                      totals, and what the store holds: kind -> count
//
// The same source is built against Istio 1.31 and 1.21.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"istio.io/istio/pilot/pkg/config/memory"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/adsc"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/keepalive"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/util/protomarshal"
)

type event map[string]any

var stdout sync.Mutex

// emit writes one event with the time, in seconds since the epoch, as one line.
func emit(name string, fields event) {
	fields["event"] = name
	fields["time"] = float64(time.Now().UnixMicro()) / 1e6
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	stdout.Lock()
	defer stdout.Unlock()
	fmt.Println(string(line))
}

// store reports what the client writes to Istio's own store.
type store struct {
	model.ConfigStore
	mu     sync.Mutex
	totals map[string]int
}

func (s *store) Create(c config.Config) (string, error) {
	revision, err := s.ConfigStore.Create(c)
	s.report("add", describe(c), err)
	return revision, err
}

func (s *store) Update(c config.Config) (string, error) {
	revision, err := s.ConfigStore.Update(c)
	s.report("update", describe(c), err)
	return revision, err
}

func (s *store) Delete(kind config.GroupVersionKind, name, namespace string, revision *string) error {
	err := s.ConfigStore.Delete(kind, name, namespace, revision)
	s.report("remove", event{"kind": kind.Kind, "name": namespace + "/" + name}, err)
	return err
}

func (s *store) report(op string, fields event, err error) {
	if err != nil {
		fields["op"], fields["error"] = op, err.Error()
		op = "rejected"
	}
	s.mu.Lock()
	s.totals[op]++
	s.mu.Unlock()
	emit(op, fields)
}

// summary is the totals by event, and the number of configs held by kind.
func (s *store) summary() event {
	held := map[string]int{}
	for _, schema := range collections.Pilot.All() {
		if n := len(s.List(schema.GroupVersionKind(), "")); n > 0 {
			held[schema.Kind()] = n
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	totals := map[string]int{}
	for op, n := range s.totals {
		totals[op] = n
	}
	return event{"totals": totals, "held": held}
}

func describe(c config.Config) event {
	fields := event{
		"kind": c.GroupVersionKind.Kind, "name": c.Namespace + "/" + c.Name, "version": c.ResourceVersion,
		"created": c.CreationTimestamp.UTC().Format(time.RFC3339), "labels": c.Labels, "annotations": c.Annotations,
	}
	if spec, ok := c.Spec.(proto.Message); ok {
		if text, err := protomarshal.ToJSON(spec); err == nil {
			fields["spec"] = json.RawMessage(text)
		}
	}
	return fields
}

// responses reports each response before the client works on it.
type responses struct{}

func (responses) HandleResponse(_ *adsc.ADSC, r *discovery.DiscoveryResponse) {
	emit("response", event{
		"type": r.TypeUrl, "count": len(r.Resources), "version": r.VersionInfo, "nonce": r.Nonce, "bytes": proto.Size(r),
	})
}

// newClient takes its settings from pilot/pkg/bootstrap/configcontroller.go.
func newClient(address string, target model.ConfigStore) (*adsc.ADSC, error) {
	client, err := adsc.New(address, &adsc.ADSConfig{
		InitialDiscoveryRequests: adsc.ConfigInitialRequests(),
		ResponseHandler:          responses{},
		Config: adsc.Config{
			Namespace: "istio-system",
			Workload:  "adsprobe",
			Meta:      model.NodeMetadata{Generator: "api"}.ToStruct(),
			GrpcOpts: []grpc.DialOption{
				keepalive.DefaultOption().ConvertToClientOption(),
				grpc.WithTransportCredentials(insecure.NewCredentials()),
			},
		},
	})
	if err != nil {
		return nil, err
	}
	client.Store = target
	return client, client.Run()
}

func run(address string) error {
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"} // stdout carries events only
	if err := log.Configure(options); err != nil {
		return err
	}
	held := &store{ConfigStore: memory.Make(collections.Pilot), totals: map[string]int{}}
	client, err := newClient(address, held)
	if err != nil {
		return err
	}
	defer client.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for synced := false; ; {
		select {
		case <-stop:
			emit("end", held.summary())
			return nil
		case <-tick.C:
			if !synced && client.HasSynced() {
				synced = true
				emit("synced", held.summary())
			}
		}
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: adsprobe HOST:PORT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "adsprobe:", err)
		os.Exit(1)
	}
}
