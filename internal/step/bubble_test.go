package step_test

import (
	"sync"
	"testing"
	"testing/synctest"
)

// bubbles lets one step at a time live on virtual time. The type caches of
// encoding/json wait for whoever fills them, be it in another bubble, which
// looks like a deadlock or like a race (golang/go issue 73733).
var bubbles sync.Mutex

// bubble runs f on virtual time.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	bubbles.Lock()
	defer bubbles.Unlock()
	synctest.Test(t, f)
}
