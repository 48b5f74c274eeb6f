package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/towline/towline/internal/build/layer"
)

// guard reads a tar on the way to whoever unpacks it, and looks at each header
// before the other does: a few bytes may announce a file of many terabytes, all of
// it a hole.
type guard struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has no other way to be told
	source io.Reader
	room   *layer.Room
	// chunks go to the inspector, which says through hungry that it has done with
	// the last one. done is closed when it looks at nothing any more.
	chunks chan []byte
	hungry chan struct{}
	done   chan struct{}
	// found is what the inspector objects to, to be read after done.
	found error
	// err is what the guard ended the stream with, if it did.
	err error
}

func newGuard(ctx context.Context, source io.Reader, room *layer.Room) *guard {
	g := &guard{ctx: ctx, source: source, room: room, chunks: make(chan []byte), hungry: make(chan struct{}), done: make(chan struct{})}
	go g.inspect()
	return g
}

// inspect looks at the headers of what it is fed.
func (g *guard) inspect() {
	defer close(g.done)
	entries := tar.NewReader(&feed{guard: g})
	for {
		header, err := entries.Next()
		if err != nil {
			return // Whoever unpacks says so.
		}
		if g.found = g.room.Take("/"+header.Name, header.Size); g.found != nil {
			return
		}
	}
}

// feed is the inspector's end of the stream.
type feed struct {
	guard *guard
	rest  []byte
	begun bool
}

// Read gives what the guard passed on.
func (f *feed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.begun {
			f.guard.hungry <- struct{}{}
		}
		f.begun = true
		chunk, ok := <-f.guard.chunks
		if !ok {
			return 0, io.EOF
		}
		f.rest = chunk
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Read reads the stream, once the inspector has seen what is read.
func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	if g.ctx.Err() != nil {
		g.err = context.Cause(g.ctx)
		return 0, g.err
	}
	n, err := g.source.Read(p)
	if n > 0 {
		select {
		case g.chunks <- p[:n]:
			select {
			case <-g.hungry:
			case <-g.done:
			}
		case <-g.done:
		}
	}
	select {
	case <-g.done:
		if g.found != nil {
			g.err = g.found
			return 0, g.err
		}
	default:
	}
	if err != nil && !errors.Is(err, io.EOF) {
		g.err = err
	}
	return n, err
}

// close ends the inspector.
func (g *guard) close() {
	close(g.chunks)
	for {
		select {
		case <-g.hungry:
		case <-g.done:
			return
		}
	}
}
