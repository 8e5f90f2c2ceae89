// Rival carries the events of one queue of ActiveMQ to Kafka, NATS JetStream or a file, with the clients that a
// program of Go would use for that. It acknowledges an event when it is stored, and all events before it are.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// What is stored within this time shares one acknowledgement.
const ackEvery = time.Millisecond

// An event has at most one result in its channel: nil when it is stored, else the error.
type event struct {
	id, ack string
	body    []byte
	stored  chan error
}

// A sink takes events in their order, and says of each when it is stored.
type sink interface {
	store(*event)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	prefetch, err := strconv.Atoi(os.Getenv("RIVAL_PREFETCH"))
	if err != nil {
		return fmt.Errorf("RIVAL_PREFETCH: %w", err)
	}
	sink, err := open(prefetch)
	if err != nil {
		return err
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)

	broker, err := connect(os.Getenv("RIVAL_BROKER"), os.Getenv("RIVAL_USERNAME"), os.Getenv("RIVAL_PASSWORD"),
		os.Getenv("RIVAL_CLIENT_ID"))
	if err != nil {
		return err
	}
	events := make(chan *event, prefetch)
	ended := make(chan error, 1)
	go func() { ended <- broker.receive(events) }()
	if err := broker.subscribe(os.Getenv("RIVAL_QUEUE"), prefetch); err != nil {
		return err
	}

	taken := make(chan *event, prefetch)
	settled := make(chan error, 1)
	go func() { settled <- acknowledge(broker, taken) }()
	for {
		select {
		case event := <-events:
			taken <- event
			sink.store(event)
		case err := <-ended:
			return err
		case err := <-settled:
			return err
		case <-terminated:
			close(taken)
			if err := <-settled; err != nil {
				return err
			}
			// What comes meanwhile stays with the broker.
			go func() {
				for range events {
				}
			}()
			if err := broker.disconnect(); err != nil {
				return err
			}
			return <-ended
		}
	}
}

func open(prefetch int) (sink, error) {
	switch {
	case os.Getenv("RIVAL_KAFKA") != "":
		return openKafka(os.Getenv("RIVAL_KAFKA"), os.Getenv("RIVAL_TOPIC"), os.Getenv("RIVAL_LINGER"))
	case os.Getenv("RIVAL_NATS") != "":
		return openJetStream(os.Getenv("RIVAL_NATS"), os.Getenv("RIVAL_SUBJECT"), prefetch)
	default:
		return openFile(os.Getenv("RIVAL_FILE"), prefetch)
	}
}

// Acknowledges, in the order of the events, what is stored: the first that is not yet stored holds the others up.
func acknowledge(broker *broker, taken <-chan *event) error {
	var last *event
	for event := range taken {
		var err error
		select {
		case err = <-event.stored:
		default:
			if last != nil {
				if err := broker.ack(last.ack); err != nil {
					return err
				}
				last = nil
			}
			err = <-event.stored
			time.Sleep(ackEvery)
		}
		if err != nil {
			return fmt.Errorf("event %s: %w", event.id, err)
		}
		last = event
		if len(taken) == 0 {
			if err := broker.ack(last.ack); err != nil {
				return err
			}
			last = nil
		}
	}
	return nil
}

// The MD5 of the address.
func (e *event) key() (string, error) {
	var members struct {
		MD5Email string `json:"md5_email"`
		MD5      string `json:"md5"`
	}
	if err := json.Unmarshal(e.body, &members); err != nil {
		return "", err
	}
	if members.MD5Email != "" {
		return members.MD5Email, nil
	}
	if members.MD5 == "" {
		return "", fmt.Errorf("no MD5 in the body")
	}
	return members.MD5, nil
}
