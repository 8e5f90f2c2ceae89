package main

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type kafka struct {
	client *kgo.Client
}

// The client's defaults are right: it is idempotent, waits for all replicas, retries without an end, and counts
// partitions as Java does. It waits 10 ms for more records unless linger says otherwise.
func openKafka(bootstrap, topic, linger string) (sink, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
	}
	if linger != "" {
		duration, err := time.ParseDuration(linger)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.ProducerLinger(duration))
	}
	client, err := kgo.NewClient(options...)
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
