package main

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	maxPending = 4096
	timeout    = 10 * time.Second
)

type stream struct {
	jetstream jetstream.JetStream
	subject   string
	pending   chan published
}

type published struct {
	event *event
	jetstream.PubAckFuture
}

// After a lost connection, later events would overtake those that were lost with it. So there is no reconnection.
func openJetStream(url, subject string, prefetch int) (sink, error) {
	connection, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	context, err := jetstream.New(connection,
		jetstream.WithPublishAsyncMaxPending(min(prefetch, maxPending)),
		jetstream.WithPublishAsyncTimeout(timeout),
	)
	s := &stream{context, subject, make(chan published, prefetch)}
	go s.resolve()
	return s, err
}

func (s *stream) store(e *event) {
	subject := s.subject
	if strings.HasSuffix(subject, ".") {
		key, err := e.key()
		if err != nil {
			e.stored <- err
			return
		}
		subject += key
	}
	future, err := s.jetstream.PublishAsync(subject, e.body, jetstream.WithMsgID(e.id),
		jetstream.WithStallWait(timeout))
	if err != nil {
		e.stored <- err
		return
	}
	s.pending <- published{e, future}
}

func (s *stream) resolve() {
	for p := range s.pending {
		select {
		case <-p.Ok():
			p.event.stored <- nil
		case err := <-p.Err():
			p.event.stored <- err
		}
	}
}
