package main

import (
	"io"
	"os"
	"syscall"
)

type file struct {
	file  *os.File
	ready chan *event
}

func openFile(path string, prefetch int) (sink, error) {
	opened, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := cutTornLine(opened); err != nil {
		return nil, err
	}
	f := &file{opened, make(chan *event, prefetch)}
	go f.write()
	return f, nil
}

// Removes what a kill has left of a line, and goes to the end.
func cutTornLine(file *os.File) error {
	end, err := file.Seek(0, io.SeekEnd)
	for last := make([]byte, 1); err == nil && end > 0; end-- {
		if _, err = file.ReadAt(last, end-1); last[0] == '\n' {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := file.Truncate(end); err != nil {
		return err
	}
	_, err = file.Seek(end, io.SeekStart)
	return err
}

func (f *file) store(e *event) {
	f.ready <- e
}

// Writes what is ready, and syncs it as one.
func (f *file) write() {
	var group []*event
	var lines []byte
	for first := range f.ready {
		group, lines = append(group[:0], first), lines[:0]
		for len(f.ready) > 0 {
			group = append(group, <-f.ready)
		}
		for _, event := range group {
			lines = append(append(lines, event.body...), '\n')
		}
		_, err := f.file.Write(lines)
		if err == nil {
			err = syscall.Fdatasync(int(f.file.Fd()))
		}
		for _, event := range group {
			event.stored <- err
		}
	}
}
