// Prints every mirrored event of a topic: partition, MD5, message id, body.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: read-kafka BROKERS TOPIC GROUP")
	}
	if err := read(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func read(brokers, topic, group string) error {
	running, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		// Only committed events. The default also reads those of transactions that were aborted.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
		// No partition moves to another reader between poll and commit.
		kgo.BlockRebalanceOnPoll(),
		// By default, the client waits in silence for a topic that does not exist.
		kgo.KeepRetryableFetchErrors(),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
	)
	if err != nil {
		return err
	}
	// Leaves the group, or else the next start waits for 45 s.
	defer client.CloseAllowingRebalance()
	for {
		events := client.PollFetches(running)
		if running.Err() != nil {
			return nil
		}
		events.EachError(func(topic string, _ int32, err error) {
			log.Printf("cannot read %s: %v", topic, err)
		})
		events.EachRecord(func(event *kgo.Record) {
			// The key is the MD5, 32 lower-case hex digits: one person is always in one partition.
			fmt.Printf("%d\t%s\t%s\t%s\n", event.Partition, event.Key, header(event, "atdata-message-id"), event.Value)
		})
		// Only now, after the work is done: what is not committed is read again.
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			return err
		}
		client.AllowRebalance()
	}
}

func header(event *kgo.Record, name string) []byte {
	for _, header := range event.Headers {
		if header.Key == name {
			return header.Value
		}
	}
	return nil
}
