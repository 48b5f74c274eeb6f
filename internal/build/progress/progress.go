// Package progress is the vocabulary of what happens during a build.
//
// The build rooms emit these events; internal/report turns them into words.
package progress

import "time"

// Func receives events. It is called from several goroutines at once.
type Func func(Event)

// Event is one of the types of this package.
type Event interface{ event() }

// Emit calls f when there is one.
func (f Func) Emit(e Event) {
	if f != nil {
		f(e)
	}
}

// SandboxChosen says where RUN steps will run, once per build.
type SandboxChosen struct {
	// Name is "namespaces", "in place" or "chroot".
	Name string
	// Warning says what this sandbox cannot do, or is empty.
	Warning string
}

// StepStarted says that a vertex has begun.
type StepStarted struct {
	// ID is the vertex's digest.
	ID string
	// Name is what BuildKit calls the step: "[build 2/4] RUN make".
	Name string
	// File and Line are its place in the Dockerfile; Line is 0 when unknown.
	File string
	Line int
	// Cached: nothing is done, the result comes from a cache.
	Cached bool
}

// StepOutput is what a RUN wrote, in pieces as they came. Untrusted.
type StepOutput struct {
	ID   string
	Data []byte
}

// StepDone says that a vertex has ended.
type StepDone struct {
	ID       string
	Cached   bool
	Err      error
	Duration time.Duration
}

// Warning is a finding with a place: a lint rule of BuildKit's frontend, or a
// request that the sandbox cannot honour.
type Warning struct {
	File    string
	Line    int
	Message string
	Detail  string
	URL     string
}

// LayerDone says that a layer has been made.
type LayerDone struct {
	// ID is the vertex's digest, DiffID and Digest are the layer's.
	ID, DiffID, Digest string
	// Size is the compressed size in bytes.
	Size     int64
	Files    int
	Duration time.Duration
}

// BaseUnpacked says that layers of an image have been put on disk.
type BaseUnpacked struct {
	Ref      string
	Layers   int
	Size     int64
	Duration time.Duration
}

// MountRestored says that a cache mount is as an earlier build left it.
type MountRestored struct {
	// Path is where the RUN has it.
	Path     string
	Files    int
	Size     int64
	Duration time.Duration
}

func (SandboxChosen) event() {}
func (StepStarted) event()   {}
func (StepOutput) event()    {}
func (StepDone) event()      {}
func (Warning) event()       {}
func (LayerDone) event()     {}
func (BaseUnpacked) event()  {}
func (MountRestored) event() {}
