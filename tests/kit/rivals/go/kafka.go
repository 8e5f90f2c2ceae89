package main

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

type kafka struct {
	client *kgo.Client
}

// The client's defaults are right: it is idempotent, waits for all replicas, retries without an end, counts
// partitions as Java does, and lingers for 10 ms, which saves processor time.
func openKafka(bootstrap, topic string) (sink, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
	)
	return &kafka{client}, err
}

func (k *kafka) store(e *event) {
	key, err := e.key()
	if err != nil {
		e.stored <- err
		return
	}
	record := &kgo.Record{Key: []byte(key), Value: e.body}
	k.client.Produce(context.Background(), record, func(_ *kgo.Record, err error) { e.stored <- err })
}
