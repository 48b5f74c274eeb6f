package inputs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Run holds the settings of RUN steps.
type Run struct {
	// AddHosts are HOST=IP.
	AddHosts []string
	// Network is none, host, or empty for what each RUN says.
	Network string
	// ShmSize is in bytes; 0 for the sandbox's own.
	ShmSize int64
	// Ulimits are NAME=SOFT[:HARD].
	Ulimits []string
}

// The values of "call".
const (
	CallBuild   = "build"
	CallCheck   = "check"
	CallOutline = "outline"
	CallTargets = "targets"
)

// The values of "source-date-epoch" that are not a number.
const (
	EpochCommit  = "commit"
	EpochContext = "context"
)

// machine reads how a build runs.
func (p *parser) machine(s *Settings) {
	b := &s.Build
	b.Call = p.text("call")
	if known := []string{CallBuild, CallCheck, CallOutline, CallTargets}; !slices.Contains(known, b.Call) {
		p.failf("call", b.Call, "Write one of "+strings.Join(known, ", ")+".", "there is no such call")
	}
	p.cache(s)
	b.NoCache = p.boolean("no-cache", false)
	b.NoCacheStages = p.texts("no-cache-filters")
	p.boolean("pull", false)
	p.run(&b.Run)
	p.sourceDateEpoch(b)
	if p.single("builder", "Remove it.") != "" {
		s.Notices = append(s.Notices, `Input "builder" is not needed: Towline builds by itself. Remove it.`)
	}
	if p.boolean("load", false) {
		s.Notices = append(s.Notices, `Input "load" is not needed: there is no Docker engine to load the image into. Remove it, or have outputs: type=docker,dest=PATH write what docker load reads.`)
	}
	if p.single("cgroup-parent", "Name one control group.") != "" {
		s.Warnings = append(s.Warnings, `Input "cgroup-parent" has no effect: RUN steps stay in the control group of this step, with its limits.`)
	}
	for _, right := range p.texts("allow") {
		switch {
		case right == "network.host":
		case right == "security.insecure", right == "device" || strings.HasPrefix(right, "device="):
			s.Warnings = append(s.Warnings, fmt.Sprintf("Input \"allow\" has no effect for %s: a build never gets more rights than its container.", right))
		default:
			p.failf("allow", right, "Write network.host, security.insecure or device.", "not a right")
		}
	}
}

// texts is a list's entries.
func (p *parser) texts(name string) []string {
	var all []string
	for _, entry := range p.list(name, true) {
		all = append(all, entry.text)
	}
	return all
}

func (p *parser) run(r *Run) {
	for _, entry := range p.texts("add-hosts") {
		host, err := addedHost(entry)
		if err != nil {
			p.fail("add-hosts", entry, "Write HOST:IP, one a line.", err)
			continue
		}
		r.AddHosts = append(r.AddHosts, host)
	}
	switch r.Network = p.text("network"); r.Network {
	case "default", "sandbox":
		r.Network = ""
	case "none", "host":
	default:
		p.failf("network", r.Network, "Write default, none or host.", "not a network")
	}
	if v := p.single("shm-size", "Write one size."); v != "" {
		size, err := units.RAMInBytes(v)
		if err != nil || size <= 0 {
			p.failf("shm-size", v, "Write a number of bytes with b, k, m or g behind it, such as 128m.", "not a size")
		}
		r.ShmSize = size
	}
	for _, entry := range p.texts("ulimit") {
		if _, err := units.ParseUlimit(entry); err != nil {
			p.fail("ulimit", entry, "Write NAME=SOFT[:HARD], such as nofile=1024:4096.", err)
			continue
		}
		r.Ulimits = append(r.Ulimits, entry)
	}
}

// addedHost is HOST=IP of HOST:IP, as docker build takes both.
func addedHost(entry string) (string, error) {
	host, ip, found := strings.Cut(entry, "=")
	if !found {
		host, ip, found = strings.Cut(entry, ":")
	}
	if host, ip = strings.TrimSpace(host), strings.TrimSpace(ip); !found || host == "" {
		return "", errors.New("not HOST:IP")
	}
	if ip == "host-gateway" {
		return "", errors.New("there is no host behind the build that host-gateway could mean")
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]"))
	if err != nil {
		return "", fmt.Errorf("%q is not an IP address", ip)
	}
	return host + "=" + address.String(), nil
}

func (p *parser) sourceDateEpoch(b *Build) {
	const fix = "Write seconds since 1970, commit or context."
	v, from := p.single("source-date-epoch", fix), ""
	if _, arg := b.BuildArgs["SOURCE_DATE_EPOCH"]; arg {
		if v != "" {
			p.failf("source-date-epoch", v, "Remove one of them.", "the build argument SOURCE_DATE_EPOCH is also in \"build-args\"")
		}
		return
	}
	if v == "" {
		v, from = p.env("SOURCE_DATE_EPOCH"), " (from SOURCE_DATE_EPOCH in the environment)"
	}
	seconds, err := strconv.ParseInt(v, 10, 64)
	switch {
	case v == "":
	case v == EpochCommit:
	case v == EpochContext:
		if !isRemoteContext(p.values["context"]) {
			p.failf("source-date-epoch", v, "Write commit for the time of the commit that is checked out.", "the context is a folder, which has no time of its own")
		}
	case err != nil || seconds < 0:
		p.failf("source-date-epoch", v, fix, "not a time%s", from)
	}
	b.SourceDateEpoch = v
}

// isRemoteContext says whether a context comes from elsewhere than the workspace.
func isRemoteContext(v string) bool {
	return strings.Contains(v, "://") || strings.HasPrefix(v, "git@")
}
