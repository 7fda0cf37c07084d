// One etcd server, or a data directory made from a backup; the same source is built with etcd 3.6 and 3.5.
//
//	etcd -config FILE                    serves until SIGTERM, and prints READY
//	etcd -config FILE -restore SNAPSHOT  makes the member's data directory from a backup
//
// FILE is what etcd itself takes as --config-file.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func main() {
	file := flag.String("config", "", "configuration, as for etcd's --config-file")
	backup := flag.String("restore", "", "make the data directory from this snapshot, and end")
	flag.Parse()

	config, err := embed.ConfigFromFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	if *backup != "" {
		err = restore(config, *backup)
	} else {
		err = serve(config)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func restore(config *embed.Config, backup string) error {
	var peers []string
	for _, url := range config.AdvertisePeerUrls {
		peers = append(peers, url.String())
	}
	return snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath:        backup,
		Name:                config.Name,
		OutputDataDir:       config.Dir,
		PeerURLs:            peers,
		InitialCluster:      config.InitialCluster,
		InitialClusterToken: config.InitialClusterToken,
	})
}

func serve(config *embed.Config) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)

	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	ready := server.Server.ReadyNotify()
	for {
		select {
		case <-ready:
			fmt.Println("READY")
			ready = nil
		case <-stop:
			return nil
		case err := <-server.Err():
			return err
		}
	}
}
