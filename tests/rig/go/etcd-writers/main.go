// A process that registers services in etcd, each with the library of the ecosystem that has the format.
//
//	etcd-writers -endpoint 127.0.0.1:2379 -ttl 2
//
// Reads lines of JSON, see request, and answers each with one: {} or {"error": "..."}. What a client has registered
// lives as long as this process, and up to TTL seconds longer.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	kitex "github.com/cloudwego/kitex/pkg/registry"
	gokit "github.com/go-kit/kit/sd/etcdv3"
	gokitlog "github.com/go-kit/log"
	kratosetcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	kratos "github.com/go-kratos/kratos/v2/registry"
	kitexetcd "github.com/kitex-contrib/registry-etcd"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	gomicro "go-micro.dev/v5/registry"
	gomicroetcd "go-micro.dev/v5/registry/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// request is a command: "register", or "unregister" with the format, name and address of what was registered.
type request struct {
	Command  string            `json:"command"`
	Format   string            `json:"format"`
	Name     string            `json:"name"`
	Address  string            `json:"address"`
	Version  string            `json:"version"`
	Weight   int               `json:"weight"`
	Metadata map[string]string `json:"metadata"`
}

// etcd is where and for how long a library registers.
type etcd struct {
	endpoint string
	ttl      time.Duration
}

// Each registers a service and returns what takes it back.
var formats = map[string]func(etcd, request) (func() error, error){
	"grpc":     registerGRPC,
	"go-zero":  registerGoZero,
	"go-kit":   registerGoKit,
	"go-micro": registerGoMicro,
	"kratos":   registerKratos,
	"kitex":    registerKitex,
}

func main() {
	endpoint := flag.String("endpoint", "", "host:port of etcd")
	ttl := flag.Int("ttl", 0, "seconds that a lease lives")
	flag.Parse()
	logx.Disable() // it would write to stdout
	// Read when a Kitex registry is made; it has no option for it.
	if err := os.Setenv("KITEX_ETCD_REGISTRY_LEASE_TTL", strconv.Itoa(*ttl)); err != nil {
		log.Fatal(err)
	}

	server := etcd{*endpoint, time.Duration(*ttl) * time.Second}
	registered := map[string]func() error{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer := map[string]string{}
		if err := obey(server, registered, lines.Bytes()); err != nil {
			answer["error"] = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}

func obey(server etcd, registered map[string]func() error, line []byte) error {
	var wanted request
	if err := json.Unmarshal(line, &wanted); err != nil {
		return err
	}
	register := formats[wanted.Format]
	if register == nil {
		return fmt.Errorf("no such format: %q", wanted.Format)
	}
	key := wanted.Format + " " + wanted.Name + " " + wanted.Address
	takeBack := registered[key]
	switch {
	case wanted.Command == "register" && takeBack == nil:
		takeBack, err := register(server, wanted)
		if err == nil {
			registered[key] = takeBack
		}
		return err
	case wanted.Command == "unregister" && takeBack != nil:
		delete(registered, key)
		return takeBack()
	}
	return fmt.Errorf("cannot %s: %s", wanted.Command, key)
}

func (e etcd) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{e.endpoint}, DialTimeout: 10 * time.Second})
}

func registerGRPC(server etcd, service request) (func() error, error) {
	client, err := server.client()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	lease, err := client.Grant(ctx, int64(server.ttl.Seconds()))
	if err != nil {
		return nil, err
	}
	kept, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return nil, err
	}
	go func() {
		for range kept { // an unread channel makes the client complain
		}
	}()
	manager, err := endpoints.NewManager(client, service.Name)
	if err != nil {
		return nil, err
	}
	endpoint := endpoints.Endpoint{Addr: service.Address}
	if service.Metadata != nil {
		endpoint.Metadata = service.Metadata
	}
	key := service.Name + "/" + service.Address
	takeBack := func() error {
		defer client.Close()
		return manager.DeleteEndpoint(ctx, key)
	}
	return takeBack, manager.AddEndpoint(ctx, key, endpoint, clientv3.WithLease(lease.ID))
}

func registerGoZero(server etcd, service request) (func() error, error) {
	discov.TimeToLive = int64(server.ttl.Seconds())
	publisher := discov.NewPublisher([]string{server.endpoint}, service.Name, service.Address)
	takeBack := func() error {
		publisher.Stop()
		return nil
	}
	return takeBack, publisher.KeepAlive()
}

func registerGoKit(server etcd, service request) (func() error, error) {
	client, err := gokit.NewClient(context.Background(), []string{server.endpoint}, gokit.ClientOptions{})
	if err != nil {
		return nil, err
	}
	registration := gokit.Service{
		Key:   service.Name + "/" + service.Address,
		Value: "http://" + service.Address,
		TTL:   gokit.NewTTLOption(server.ttl/3, server.ttl),
	}
	registrar := gokit.NewRegistrar(client, registration, gokitlog.NewLogfmtLogger(os.Stderr))
	registrar.Register()
	takeBack := func() error {
		registrar.Deregister()
		return nil
	}
	return takeBack, nil
}

func registerGoMicro(server etcd, service request) (func() error, error) {
	registry := gomicroetcd.NewEtcdRegistry(gomicro.Addrs(server.endpoint))
	registration := &gomicro.Service{
		Name:    service.Name,
		Version: service.Version,
		Nodes: []*gomicro.Node{{
			Id:       service.Name + "-" + service.Address,
			Address:  service.Address,
			Metadata: service.Metadata,
		}},
	}
	register := func() error { return registry.Register(registration, gomicro.RegisterTTL(server.ttl)) }
	if err := register(); err != nil {
		return nil, err
	}
	// The library leaves it to its caller to come back in time, as go-micro's server does.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		again := time.NewTicker(server.ttl / 3)
		defer again.Stop()
		for {
			select {
			case <-stop:
				return
			case <-again.C:
				if err := register(); err != nil {
					log.Print(err)
				}
			}
		}
	}()
	takeBack := func() error {
		close(stop)
		<-stopped
		return registry.Deregister(registration)
	}
	return takeBack, nil
}

func registerKratos(server etcd, service request) (func() error, error) {
	client, err := server.client()
	if err != nil {
		return nil, err
	}
	registry := kratosetcd.New(client, kratosetcd.RegisterTTL(server.ttl))
	registration := &kratos.ServiceInstance{
		ID:        service.Address,
		Name:      service.Name,
		Version:   service.Version,
		Metadata:  service.Metadata,
		Endpoints: []string{"grpc://" + service.Address},
	}
	ctx := context.Background()
	takeBack := func() error {
		defer client.Close()
		return registry.Deregister(ctx, registration)
	}
	return takeBack, registry.Register(ctx, registration)
}

func registerKitex(server etcd, service request) (func() error, error) {
	registry, err := kitexetcd.NewEtcdRegistry([]string{server.endpoint})
	if err != nil {
		return nil, err
	}
	address, err := net.ResolveTCPAddr("tcp", service.Address)
	if err != nil {
		return nil, err
	}
	registration := &kitex.Info{
		ServiceName: service.Name,
		Addr:        address,
		Weight:      service.Weight,
		Tags:        service.Metadata,
	}
	takeBack := func() error { return registry.Deregister(registration) }
	return takeBack, registry.Register(registration)
}
