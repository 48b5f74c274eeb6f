package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/dockerfile"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/imagetest"
)

// workerArg as the first argument makes the test binary a program that builds
// cases: on this machine in namespaces, or as the only process of a container.
const workerArg = "build-cases"

// order is what a worker is to do. All folders are the worker's own view.
type order struct {
	Sandbox string
	// Cases is a folder of archives, Bases an OCI layout, and Results where the
	// outcomes go.
	Cases, Bases, Results string
	// Work is where contexts and builds are kept.
	Work string
	// Names are the cases to build.
	Names []string
	// Server is the URL of the file server.
	Server string
	// Contents are for the Describer.
	Contents map[string]string
	// NoAttributes is for the Describer too.
	NoAttributes bool
	// Jobs is how many cases are built side by side.
	Jobs int
}

func work(args []string) int {
	entry := sandbox.Enter(args, os.Environ()) //nolint:forbidigo // a main
	if entry.Exit {
		return entry.Code
	}
	if err := obey(context.Background(), entry, args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func obey(ctx context.Context, entry sandbox.Entry, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o order
	if err = json.Unmarshal(data, &o); err != nil {
		return err
	}
	state := filepath.Join(o.Work, "sandbox")
	if err = os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	box, _, err := sandbox.Choose(ctx, o.Sandbox, sandbox.Options{StateDir: state, Executable: entry.Executable})
	if err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(o.Bases)
	if err != nil {
		return err
	}
	b := &builder{order: o, box: box, images: library{index}, describer: &imagetest.Describer{Names: o.Contents, Context: contextTime(), NoAttributes: o.NoAttributes}}
	if err := b.knowBases(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(o.Jobs, 1))
	for _, name := range o.Names {
		group.Go(func() error {
			out := b.build(ctx, name)
			return out.save(filepath.Join(o.Results, name+".json"))
		})
	}
	return group.Wait()
}

// builder builds cases with Towline.
type builder struct {
	order     order
	box       sandbox.Sandbox
	images    library
	describer *imagetest.Describer
}

func (b *builder) knowBases() error {
	manifest, err := b.images.index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() {
			continue
		}
		img, err := b.images.index.Image(d.Digest)
		if err != nil {
			return err
		}
		if err := b.describer.AddBase(d.Annotations[refName], img); err != nil {
			return err
		}
	}
	return nil
}

// machine is what the cases are built for and on.
func machine() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

func (b *builder) build(ctx context.Context, name string) *outcome {
	begin := time.Now()
	text, err := b.tryBuild(ctx, name)
	out := &outcome{Text: text, Took: time.Since(begin)}
	if err != nil {
		out.Text, out.Error = failed, err.Error()
	}
	return out
}

func (b *builder) tryBuild(ctx context.Context, name string) (_ string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the case takes more than a minute"))
	defer cancel()
	c, err := loadCase(filepath.Join(b.order.Cases, name+".txtar"))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.order.Work, "case-"+name)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err = c.write(dir); err != nil {
		return "", err
	}
	since := time.Now().Add(-time.Second)
	opts, err := b.options(c, dir)
	if err != nil {
		return "", err
	}
	result, err := build.Build(ctx, opts)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, result.Close()) }()
	content, err := result.Content(build.ManifestOptions{})
	if err != nil {
		return "", err
	}
	if err = again(ctx, opts, result, content.Descriptor.Digest); err != nil {
		return "", err
	}
	if content.Index == nil {
		text, describeErr := b.describer.Describe(content.Images[0], since)
		return hideServer(text, b.order.Server), describeErr
	}
	text, err := describeIndex(b.describer, content.Index, since)
	return hideServer(text, b.order.Server), err
}

// again builds a case once more, from the cache that it has left: no step may be
// done, and the image has to be the same.
func again(ctx context.Context, opts build.Options, cold *build.Result, want v1.Hash) (err error) {
	if opts.NoCache {
		return nil
	}
	left, err := build.ReadCache(cold.Cache)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var done []string
	opts.CacheFrom, opts.Dir = []build.Cache{left}, opts.Dir+"-again"
	opts.Progress = func(e progress.Event) {
		step, ok := e.(progress.StepStarted)
		if !ok || step.Cached || strings.HasPrefix(step.Name, "[internal]") || strings.Contains(step.Name, "] FROM ") || strings.Contains(step.Name, "] load ") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, step.Name)
	}
	warm, err := build.Build(ctx, opts)
	if err != nil {
		return fmt.Errorf("from its cache: %w", err)
	}
	defer func() { err = errors.Join(err, warm.Close()) }()
	content, err := warm.Content(build.ManifestOptions{})
	if err != nil {
		return err
	}
	layers, err := warm.Images[0].Layers()
	if err != nil {
		return err
	}
	// An image without a layer is of the time at which it was built.
	if same := content.Descriptor.Digest == want || len(layers) == 0; len(done) > 0 || !same {
		return fmt.Errorf("from its cache: %s, want %s; done again: %q", content.Descriptor.Digest, want, done)
	}
	return nil
}

// describeIndex writes down the images of an index one after the other.
func describeIndex(d *imagetest.Describer, index v1.ImageIndex, since time.Time) (string, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, m := range manifest.Manifests {
		img, err := index.Image(m.Digest)
		if err != nil {
			return "", err
		}
		text, err := d.Describe(img, since)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "platform %s\n%s", m.Platform, text)
	}
	return out.String(), nil
}

// hideServer takes the server's address, which is another each time, out of a description.
func hideServer(text, server string) string {
	if server == "" {
		return text
	}
	return strings.ReplaceAll(text, server, "http://server")
}

func (b *builder) options(c *testCase, dir string) (build.Options, error) {
	opts := build.Options{
		Context: contextPath(dir, ""), File: contextPath(dir, c.one("dockerfile", "Dockerfile")), Display: "Dockerfile",
		Target: c.one("target", ""), BuildArgs: c.pairs("arg"), Labels: c.pairs("label"), Secrets: map[string][]byte{}, Contexts: map[string]string{}, SSH: map[string]build.Keys{},
		Machine: machine(), Images: b.images, Sandbox: b.box, Dir: filepath.Join(dir, "state"),
		NoCache: len(c.all("no-cache")) > 0, CacheMode: build.CacheMax,
		Run: dockerfile.RunOptions{AddHosts: c.words("add-host"), Ulimits: c.words("ulimit")},
	}
	for _, args := range c.all("secret") {
		opts.Secrets[args[0]] = []byte(args[1])
	}
	if len(c.all("server")) > 0 {
		opts.BuildArgs["SERVER"] = b.order.Server
	}
	if size := c.one("shm-size", ""); size != "" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return opts, err
		}
		opts.Run.ShmSize = n
	}
	for p := range strings.SplitSeq(c.one("platform", ""), ",") {
		if p == "" {
			continue
		}
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			return opts, err
		}
		opts.Platforms = append(opts.Platforms, *platform)
	}
	return opts, b.contexts(&opts, c, dir)
}

// contexts sets what the build takes its files and keys from.
func (b *builder) contexts(opts *build.Options, c *testCase, dir string) error {
	for _, name := range c.words("context") {
		opts.Contexts[name] = contextPath(dir, "@"+name)
	}
	for _, args := range c.all("layout") {
		opts.Contexts[args[0]] = "oci-layout://" + b.order.Bases + ":" + args[1]
	}
	for _, id := range c.words("ssh") {
		key, err := sshKey()
		if err != nil {
			return err
		}
		opts.SSH[id] = build.Keys{Keys: [][]byte{key}}
	}
	main, err := c.mainContext(b.order.Server, dir, true)
	if main != "" {
		opts.Context, opts.File = main, c.one("dockerfile", "Dockerfile")
	}
	return err
}
