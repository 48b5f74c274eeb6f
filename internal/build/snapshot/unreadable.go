package snapshot

import (
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// noteUnreadable notes the layers whose reading failed with err, if it is one.
func (s *Store) noteUnreadable(err error, layers ...v1.Layer) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range layers {
		if digest, digestErr := l.Digest(); digestErr == nil {
			s.unreadable = append(s.unreadable, digest)
		}
	}
	return err
}

// Unreadable are the layers, at least one of them, that could not be used when they
// were needed: their content is no longer where it was, or not what it was.
func (s *Store) Unreadable() []v1.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unreadable)
}
