// Bench builds the cases of testdata/bench with BuildKit and with Towline in turn, and
// prints what each took: from nothing (cold), with a cache in the registry and nothing
// else (warm), and the same after one file has changed (incremental).
//
//	go run ./internal/bench                              all cases, five pairs: an hour
//	go run ./internal/bench -pairs 1 -cases copy,runs
//	go run ./internal/bench -into docs/performance.md    puts the result into the file
//
// It wants root, runc and a Docker engine, and an otherwise quiet machine.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/bases"
	"github.com/towline/towline/internal/buildkitd"
)

func main() {
	log.SetFlags(0)
	var o options
	flag.IntVar(&o.pairs, "pairs", 5, "how often each build is done; the medians count")
	flag.StringVar(&o.only, "cases", "", "the cases to build, with commas; default: all")
	flag.StringVar(&o.builders, "builders", "", "the builders to measure, with commas, of buildkit, namespaces and in-place; default: all")
	flag.BoolVar(&o.smoke, "smoke", false, "only try whether it works: one pair, small, on busybox")
	flag.StringVar(&o.bases, "bases", "", "folder in which base images and BuildKit are kept; default: in the user's cache folder")
	flag.StringVar(&o.dir, "dir", "", "folder for everything else; default: the one for temporary files")
	flag.StringVar(&o.into, "into", "", "Markdown file to put the result into, between its two comments")
	flag.StringVar(&o.binary, "binary", "", "the program to measure, such as one that writes profiles; default: that of this tree")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

type options struct {
	pairs                                    int
	only, builders, bases, dir, into, binary string
	smoke                                    bool
}

// phases are the builds of a pair, in their order.
func phases() []string { return []string{"cold", "warm", "incremental"} }

// bench is one run of the program.
type bench struct {
	options

	root, work string
	cases      []benchCase
	server     *server
	builders   []builder
	bin        string
	results    results
	log        io.Writer
}

func run(ctx context.Context, o options, stdout io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("buildkitd and the sandbox with namespaces want root")
	}
	b := &bench{options: o, results: results{}, log: os.Stderr}
	if b.cases, err = b.chosen(); err != nil {
		return err
	}
	if b.root, err = output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}"); err != nil {
		return err
	}
	if b.bases == "" {
		cache, cacheErr := os.UserCacheDir()
		if cacheErr != nil {
			return cacheErr
		}
		b.bases = filepath.Join(cache, "towline", "bases")
	}
	if err = os.MkdirAll(b.bases, 0o755); err != nil { //nolint:gosec // no secrets
		return err
	}
	if b.work, err = os.MkdirTemp(b.dir, "towline-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	if err = b.prepare(ctx); err != nil {
		return err
	}
	defer func() {
		_, pruneErr := output(context.WithoutCancel(ctx), "", "docker", "image", "prune", "--force", "--all", "--filter", "label=towline-bench")
		err = errors.Join(err, pruneErr)
	}()
	for pair := range b.pairs {
		for _, c := range b.cases {
			if err := b.pair(ctx, c, pair); err != nil {
				return fmt.Errorf("case %s: %w", c.name, err)
			}
		}
	}
	return b.report(ctx, stdout)
}

// chosen are the cases that were asked for.
func (b *bench) chosen() ([]benchCase, error) {
	list := cases()
	if b.smoke {
		b.pairs = 1
		list = slices.DeleteFunc(list, func(c benchCase) bool { return c.own })
	}
	if b.only == "" {
		return list, nil
	}
	var found []benchCase
	for name := range strings.SplitSeq(b.only, ",") {
		i := slices.IndexFunc(list, func(c benchCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no case %q", name)
		}
		found = append(found, list[i])
	}
	return found, nil
}

// prepare makes the builders, the registry and the base images.
func (b *bench) prepare(ctx context.Context) error {
	address, err := gateway(ctx)
	if err != nil {
		return err
	}
	if b.server, err = serve(ctx, address, filepath.Join(b.work, "registry")); err != nil {
		return err
	}
	if b.bin, err = buildkitd.Programs(ctx, b.root, b.bases); err != nil {
		return err
	}
	if err = b.prepareBases(ctx); err != nil {
		return err
	}
	binary := filepath.Join(b.work, "action", "towline")
	if b.binary == "" {
		err = compile(ctx, b.root, binary)
	} else {
		err = install(b.binary, binary)
	}
	if err != nil {
		return err
	}
	action, err := image(ctx, binary, filepath.Join(b.root, "testdata", "engine", "Dockerfile"))
	if err != nil {
		return err
	}
	empty, err := emptyProgram(ctx, b.root, filepath.Join(b.work, "empty"))
	if err != nil {
		return err
	}
	all := map[string]builder{
		"buildkit":   &buildKit{bin: b.bin, mirror: b.server.mirror, registry: b.server.host},
		"namespaces": &towline{binary: binary, mirror: b.server.mirror, dir: b.work},
		"in-place":   &inPlace{image: action, empty: empty, mirror: b.server.mirror, dir: b.work},
	}
	for name := range strings.SplitSeq(cmp.Or(b.options.builders, "buildkit,namespaces,in-place"), ",") {
		if all[name] == nil {
			return fmt.Errorf("there is no builder %q", name)
		}
		b.builders = append(b.builders, all[name])
	}
	return nil
}

// prepareBases serves the base images that the cases stand on, and what they install.
func (b *bench) prepareBases(ctx context.Context) error {
	store := &bases.Store{Cache: b.bases, Root: b.root, Push: b.server.push, Mirror: b.server.mirror}
	if b.smoke {
		return store.Plain(ctx, busybox)
	}
	var wanted []string
	for _, c := range b.cases {
		wanted = append(wanted, c.bases...)
	}
	if err := store.Plain(ctx, wanted...); err != nil {
		return err
	}
	if !slices.ContainsFunc(wanted, func(base string) bool { return base != jre }) {
		return nil
	}
	daemon, err := buildkitd.Start(ctx, buildkitd.Options{Bin: b.bin, Registry: b.server.mirror})
	if err != nil {
		return err
	}
	err = store.Worlds(ctx, daemon, wanted...)
	if err == nil && slices.ContainsFunc(b.cases, func(c benchCase) bool { return c.name == "apt" }) {
		err = b.serveDebs(ctx, daemon)
	}
	_, stopErr := daemon.Stop()
	return errors.Join(err, stopErr)
}

// serveDebs has the server give out the packages of the case apt, which it fetches
// before when the cache lacks them.
func (b *bench) serveDebs(ctx context.Context, daemon *buildkitd.Daemon) error {
	folder := filepath.Join(b.root, "testdata", "bench", "apt")
	text, err := os.ReadFile(filepath.Join(folder, "debs.Dockerfile")) //nolint:gosec // of this repository
	if err != nil {
		return err
	}
	dir := filepath.Join(b.bases, fmt.Sprintf("debs-%x", sha256.Sum256(text))[:21])
	if _, err = os.Stat(dir); err != nil { //nolint:gosec // named by who runs us
		_, err = daemon.Control(ctx, "build", "--progress=plain", "--frontend=dockerfile.v0",
			"--local=dockerfile="+folder, "--opt=filename=debs.Dockerfile", "--output=type=local,dest="+dir+".part")
		if err = errors.Join(err, os.Rename(dir+".part", dir)); err != nil { //nolint:gosec // named by who runs us
			return err
		}
	}
	b.server.files.Handle("GET /debs/", http.StripPrefix("/debs/", http.FileServer(http.Dir(dir))))
	return nil
}

// pair builds a case with all builders in turn: cold, warm, incremental.
func (b *bench) pair(ctx context.Context, c benchCase, pair int) error {
	dir := filepath.Join(b.work, "context", c.name)
	defer func() { _ = os.RemoveAll(dir) }()
	if err := c.write(b.root, dir, b.smoke); err != nil {
		return err
	}
	if c.name == "npm" {
		b.server.files = http.NewServeMux()
		if err := serveNPM(b.server, dir); err != nil {
			return err
		}
	}
	if err := c.commit(dir, 0, b.smoke); err != nil {
		return err
	}
	below := fmt.Sprintf("bench/%s/%d", c.name, pair)
	defer func() { _ = b.server.forget(below) }()
	digests := map[string]string{}
	for _, phase := range phases() {
		if phase == "incremental" {
			if err := c.commit(dir, pair+1, b.smoke); err != nil {
				return err
			}
		}
		for i := range b.builders {
			with := b.builders[(i+pair)%len(b.builders)]
			j := job{
				context: dir, repository: b.server.host + "/" + below + "/" + strings.ReplaceAll(strings.ToLower(with.name()), " ", "-"),
				tag: phase, args: b.arguments(c), warm: phase != "cold",
			}
			digest, err := b.one(ctx, c, with, j)
			if err == nil {
				err = checkDigest(phase, digests[with.name()], digest)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", with.name(), phase, err)
			}
			digests[with.name()] = digest
		}
	}
	return nil
}

// one builds once, and gives the image's digest.
func (b *bench) one(ctx context.Context, c benchCase, with builder, j job) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	u, err := b.measure(ctx, with, j)
	if err != nil {
		return "", err
	}
	b.results.add(c.name, j.tag, with.name(), u)
	fmt.Fprintf(b.log, "%s %-7s %-11s %-10s %7.2fs wall (%.2fs idle) %7.2fs CPU %5d MB memory %6.1f MB up %6.1f MB down\n",
		time.Now().Format(time.TimeOnly), c.name, j.tag, with.name(), u.wall.Seconds(), u.idle.Seconds(), u.cpu.Seconds(),
		u.peak>>20, float64(u.in)/1e6, float64(u.out)/1e6)
	return b.server.digest(ctx, j.repository+":"+j.tag)
}

// checkDigest holds an image against the one of the phase before: a warm build gives
// the same, an incremental one another.
func checkDigest(phase, before, now string) error {
	switch {
	case phase == "warm" && now != before:
		return fmt.Errorf("warm build gives %s, cold build gave %s", now, before)
	case phase == "incremental" && now == before:
		return fmt.Errorf("the file that changed is not in the image: it is %s as before", now)
	}
	return nil
}

func (b *bench) arguments(c benchCase) map[string]string {
	args := map[string]string{}
	if b.smoke && !c.own {
		args["BASE"] = strings.TrimPrefix(busybox, "library/")
	}
	if c.name == "apt" {
		args["DEBS"] = "http://" + b.server.host + "/debs"
	}
	return args
}

func (b *bench) measure(ctx context.Context, with builder, j job) (usage, error) {
	unix.Sync() // what was written before is not this build's burden
	in, out := b.server.moved()
	u, err := with.build(ctx, j)
	if err != nil {
		return u, err
	}
	u.in, u.out = b.server.moved()
	u.in, u.out = u.in-in, u.out-out
	return u, nil
}
