package registry

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobStore keeps blobs in a folder, one file each, named by their digest. A
// file is there whole and verified, or not at all.
type blobStore struct {
	// dir is where; empty for nowhere.
	dir string

	mu      sync.Mutex
	entries map[v1.Hash]*blobEntry
}

// blobEntry is one blob in the works; the channel is its lock.
type blobEntry struct {
	lock     chan struct{}
	verified bool
}

func (s *blobStore) entry(h v1.Hash) *blobEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = map[v1.Hash]*blobEntry{}
	}
	e, ok := s.entries[h]
	if !ok {
		e = &blobEntry{lock: make(chan struct{}, 1)}
		s.entries[h] = e
	}
	return e
}

// get gives the path of blob h, from the folder or else by download, which is
// asked once however many wait for the blob.
func (s *blobStore) get(ctx context.Context, h v1.Hash, download func(context.Context, io.Writer) error) (string, error) {
	e := s.entry(h)
	select {
	case e.lock <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-e.lock }()

	file := filepath.Join(s.dir, "blobs", h.Algorithm, h.Hex)
	if e.verified {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	if sum(file, h) == nil {
		e.verified = true
		return file, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // blobs of images are no secrets
		return "", err
	}
	if err := s.fill(ctx, file, h, download); err != nil {
		return "", err
	}
	e.verified = true
	return file, nil
}

// fill downloads into a file beside the final one and renames it when its
// content is what it should be.
func (s *blobStore) fill(ctx context.Context, file string, h v1.Hash, download func(context.Context, io.Writer) error) (err error) {
	part, err := os.CreateTemp(filepath.Dir(file), h.Hex[:12]+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = part.Close()
			_ = os.Remove(part.Name())
		}
	}()
	err = try(ctx, func(ctx context.Context) error {
		if _, seekErr := part.Seek(0, io.SeekStart); seekErr != nil {
			return seekErr
		}
		if truncErr := part.Truncate(0); truncErr != nil {
			return truncErr
		}
		hasher, hashErr := v1.Hasher(h.Algorithm)
		if hashErr != nil {
			return hashErr
		}
		if downErr := download(ctx, io.MultiWriter(part, hasher)); downErr != nil {
			return downErr
		}
		if got := hex.EncodeToString(hasher.Sum(nil)); got != h.Hex {
			return fmt.Errorf("error verifying blob: it has digest %s:%s", h.Algorithm, got)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err = part.Close(); err != nil {
		return err
	}
	return os.Rename(part.Name(), file)
}

// sum says whether file has digest h.
func sum(file string, h v1.Hash) error {
	f, err := os.Open(file) //nolint:gosec // a path of our own
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	hasher, err := v1.Hasher(h.Algorithm)
	if err != nil {
		return err
	}
	if _, err := io.Copy(hasher, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(hasher.Sum(nil)); got != h.Hex {
		return fmt.Errorf("error verifying blob: it has digest %s:%s", h.Algorithm, got)
	}
	return nil
}
