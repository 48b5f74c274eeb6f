package deploy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestReadAhead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(*fakeECS)
		updates bool
		// later is how long Deploy begins after it.
		later time.Duration
		fails []string
		// reads and lists are how often the service was read, and its deployments
		// listed, until the update; notices how many there were.
		reads, lists, notices int
	}{
		"nothing is read again":           {updates: true, reads: 1, lists: 1},
		"no update was expected":          {reads: 1, lists: 1},
		"too old by then":                 {updates: true, later: 3 * time.Second, reads: 2, lists: 2},
		"the listing is not allowed":      {updates: true, prepare: denyStates, reads: 1, lists: 1, notices: 1},
		"the service has gone meanwhile":  {updates: true, prepare: func(f *fakeECS) { f.service["status"] = "INACTIVE" }, reads: 1, lists: 1, fails: []string{"INACTIVE"}},
		"the service may not be read now": {updates: true, prepare: func(f *fakeECS) { f.refuse["DescribeServices"] = "AccessDeniedException" }, reads: 1, lists: 1, fails: []string{"ecs:DescribeServices"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.script = []step{done(time.Minute)}
				if test.prepare != nil {
					test.prepare(f)
				}
				reads, lists := 0, 0
				f.hook = func(action string, _ int) error {
					if action == "UpdateService" {
						reads, lists = len(f.bodies["DescribeServices"]), len(f.bodies["ListServiceDeployments"])
					}
					return nil
				}
				c, events := f.client(Options{Wait: true})
				c.ReadAhead(t.Context(), test.updates)
				<-time.After(test.later)
				_, err := c.Deploy(t.Context(), newTD)
				wantError(t, err, test.fails)
				if err != nil {
					reads, lists = f.count("DescribeServices"), f.count("ListServiceDeployments")
				}
				if reads != test.reads || lists != test.lists {
					t.Errorf("the service was read %d times and its deployments %d, want %d and %d", reads, lists, test.reads, test.lists)
				}
				if got := of[Notice](*events); len(got) != test.notices {
					t.Errorf("notices %v, want %d", got, test.notices)
				}
				if c.ahead != nil {
					t.Error("what was read ahead is kept for a later deployment")
				}
			})
		})
	}
}
