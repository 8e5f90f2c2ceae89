package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// A connection to the broker over STOMP 1.2. TCP's keep-alive, which Go switches on, finds a broker that is gone.
type broker struct {
	conn net.Conn
	in   *bufio.Reader
}

// A frame with those of its headers that are used here.
type frame struct {
	command, id, ack, message string
	length                    int // -1: the body ends at NUL
	body                      []byte
}

var (
	escape   = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r", ":", "\\c")
	unescape = strings.NewReplacer("\\\\", "\\", "\\n", "\n", "\\r", "\r", "\\c", ":")
)

func connect(addr, username, password, clientID string) (*broker, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := &broker{conn, bufio.NewReaderSize(conn, 256<<10)}
	// The headers of CONNECT are not escaped.
	_, err = fmt.Fprintf(conn, "CONNECT\naccept-version:1.2\nhost:atdata\nlogin:%s\npasscode:%s\nclient-id:%s\n\n\x00",
		username, password, clientID)
	if err != nil {
		return nil, err
	}
	answer, err := b.read()
	if err == nil && answer.command != "CONNECTED" {
		err = answer.unexpected()
	}
	return b, err
}

func (b *broker) subscribe(queue string, prefetch int) error {
	return b.send("SUBSCRIBE", "id", "0", "destination", "/queue/"+queue, "ack", "client",
		"activemq.prefetchSize", strconv.Itoa(prefetch))
}

// Acknowledges the message with this ack id, and all before it.
func (b *broker) ack(id string) error {
	return b.send("ACK", "id", id)
}

// Asks for the end of the connection. The broker answers when it has handled all that was sent before.
func (b *broker) disconnect() error {
	return b.send("DISCONNECT", "receipt", "bye")
}

func (b *broker) send(command string, headers ...string) error {
	out := []byte(command + "\n")
	for i := 0; i < len(headers); i += 2 {
		out = append(out, headers[i]+":"+escape.Replace(headers[i+1])+"\n"...)
	}
	_, err := b.conn.Write(append(out, "\n\x00"...))
	return err
}

// Receives messages until the broker has answered DISCONNECT.
func (b *broker) receive(events chan<- *event) error {
	for {
		frame, err := b.read()
		if err != nil {
			return err
		}
		switch frame.command {
		case "MESSAGE":
			events <- &event{frame.id, frame.ack, frame.body, make(chan error, 1)}
		case "RECEIPT":
			return nil
		default:
			return frame.unexpected()
		}
	}
}

func (b *broker) read() (*frame, error) {
	f := &frame{length: -1}
	for {
		line, err := b.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case f.command == "":
			f.command = string(line) // between frames, lines are empty
		case len(line) == 0:
			f.body, err = b.body(f.length)
			return f, err
		case string(name) == "message-id":
			f.id = unescape.Replace(string(value))
		case string(name) == "ack":
			f.ack = unescape.Replace(string(value))
		case string(name) == "message":
			f.message = unescape.Replace(string(value))
		case string(name) == "content-length":
			if f.length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
}

func (b *broker) body(length int) ([]byte, error) {
	if length < 0 {
		body, err := b.in.ReadBytes(0)
		return bytes.TrimSuffix(body, []byte{0}), err
	}
	body := make([]byte, length+1)
	_, err := io.ReadFull(b.in, body)
	return body[:length], err
}

func (f *frame) unexpected() error {
	return fmt.Errorf("the broker sent %s: %s %s", f.command, f.message, f.body)
}
