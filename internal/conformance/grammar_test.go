package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/tools/txtar"
)

// maker makes one Dockerfile up. Few names are used, so that instructions meet
// what others have made.
type maker struct {
	*rand.Rand
	out    strings.Builder
	stages []string
	links  int
}

func makeUp(seed uint64) *txtar.Archive {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 20261123))}
	for i := range 1 + m.IntN(3) {
		m.stage(i)
	}
	archive := &txtar.Archive{Comment: []byte(fmt.Sprintf("# A Dockerfile that TestDifferential made up, seed %d.\n%s", seed, contextDirectives))}
	archive.Files = append(archive.Files, txtar.File{Name: "Dockerfile", Data: []byte(m.out.String())})
	for _, name := range []string{"f", "g", "d/x", "d/y", "d/e/x", "e/f/g"} {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte("of the context: " + name + "\n")})
	}
	for _, name := range []string{"t/x", "t/e/x", "t/new/z"} {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte("of an archive: " + name + "\n")})
	}
	if m.IntN(4) == 0 {
		archive.Files = append(archive.Files, txtar.File{Name: ".dockerignore", Data: []byte(m.of("*/e\n", "d\n!d/x\n", "**/x\n", "g\n") + m.of("", "!g\n", "e\n"))})
	}
	return archive
}

const contextDirectives = `mode g 0755
mode d 0750
mode d/y 4711
symlink l f
symlink k d
symlink d/l ../f
dir h
pack t.tar none t
`

// of gives one of some words.
func (m *maker) of(words ...string) string { return words[m.IntN(len(words))] }

func (m *maker) chance(percent int) bool { return m.IntN(100) < percent }

// place is an absolute path among the few.
func (m *maker) place() string {
	return m.of("/a", "/b", "/c", "/a/x", "/a/y", "/a/e", "/a/e/x", "/b/x", "/c/d/e", "/opt", "/opt/opaque", "/opt/owned", "/home/app", "/tmp/z", "/l", "/l/x")
}

func (m *maker) source() string {
	return m.of("f", "g", "d", "d/", "d/x", "e", "l", "k", "h", "*", "d/*", "?", ".", "e/f", "d/e", "nothing*", "[fg]")
}

func (m *maker) line(format string, args ...any) { fmt.Fprintf(&m.out, format+"\n", args...) }

func (m *maker) stage(i int) {
	from := m.of("base", "base", "odd", "scratch", "rich")
	if len(m.stages) > 0 && m.chance(40) {
		from = m.stages[m.IntN(len(m.stages))]
	}
	name := fmt.Sprintf("s%d", i)
	m.line("FROM %s AS %s", from, name)
	// What runs in an empty image is not known here: stages on it only copy.
	shell := from != "scratch" && !strings.Contains(m.out.String(), "FROM scratch AS "+from+"\n")
	if from == "scratch" || !shell {
		shell = false
	} else {
		m.line("USER root")
	}
	for range 2 + m.IntN(6) {
		if shell && m.chance(50) {
			m.run()
		} else {
			m.instruction()
		}
	}
	if shell {
		m.stages = append(m.stages, name)
	}
}

func (m *maker) instruction() {
	switch m.IntN(10) {
	case 0:
		m.line("ENV %s=%s", m.of("A", "B", "PATH_2"), m.of("1", "$A", "\"two words\"", "${B:-none}", "/a"))
	case 1:
		m.line("WORKDIR %s", m.of("/a", "b", "/c/d", "../x", "/", "$A", "/l"))
	case 2:
		m.line("%s", m.of("LABEL a=b c=$A", "EXPOSE 80", "VOLUME /a", "STOPSIGNAL TERM", "CMD [\"x\"]", "ENTRYPOINT x y", "ARG A=arg", "SHELL [\"/bin/sh\", \"-ec\"]", "HEALTHCHECK NONE", "MAINTAINER me"))
	case 3:
		m.line("ADD %s%s %s%s", m.flags("chown", "chmod", "exclude"), m.of("t.tar", "f", "d", "*.tar"), m.place(), m.of("", "/"))
	case 4:
		if len(m.stages) > 0 {
			m.line("COPY %s--from=%s %s %s%s", m.flags("chown", "chmod", "link"), m.stages[m.IntN(len(m.stages))],
				m.of("/a", "/b", "/etc/passwd", "/a/", "/tmp", "/opt", "/a*"), m.place(), m.of("", "/"))
			return
		}
		m.line("COPY --from=odd %s %s%s", m.of("/opt", "/opt/opaque", "/opt/absolute", "/home", "/etc/group"), m.place(), m.of("", "/"))
	case 5:
		m.line("COPY %s<<EOF %s\ntext $A\nEOF", m.flags("chown", "chmod"), m.place())
	case 6:
		m.line("COPY %s--parents %s %s/", m.flags("chown"), m.of("d/x", "d/./e", "**/x", "e/f/g f", "./d/./*"), m.place())
	default:
		m.line("COPY %s%s%s %s%s", m.flags("chown", "chmod", "link", "exclude"), m.source(), m.of("", "", " g"), m.place(), m.of("", "/"))
	}
}

func (m *maker) flags(names ...string) string {
	var flags string
	for _, name := range names {
		if !m.chance(20) {
			continue
		}
		switch name {
		case "chown":
			flags += "--chown=" + m.of("1:2", "3", "0:7") + " "
		case "chmod":
			flags += "--chmod=" + m.of("600", "755", "u=rwX,go=rX", "a+r", "1777") + " "
		case "exclude":
			flags += "--exclude=" + m.of("x", "**/x", "d/e", "*") + " "
		default:
			flags += "--" + name + " "
		}
	}
	return flags
}

func (m *maker) run() {
	var commands []string
	for range 1 + m.IntN(4) {
		commands = append(commands, m.command())
	}
	mount := ""
	if m.chance(15) {
		mount = m.of("--mount=type=bind,target=/b/ctx,rw ", "--mount=type=tmpfs,target=/c ", "--mount=type=bind,source=d,target=/a/e,rw ",
			"--mount=type=tmpfs,target=/home/alice ", "--mount=type=bind,from=odd,source=/opt,target=/a,rw ", "--network=none ")
	}
	user := m.chance(10)
	if user {
		m.line("USER app")
	}
	m.line("RUN %s%s", mount, strings.Join(commands, "; "))
	if user {
		m.line("USER root")
	}
}

// command is a shell command that may fail: what it meets is not known here.
func (m *maker) command() string {
	p, q := m.place(), m.place()
	var c string
	switch m.IntN(16) {
	case 0:
		c = "mkdir -p " + p
	case 1:
		c = "rm -rf " + p
	case 2, 3:
		c = fmt.Sprintf("echo %s >%s", m.of("one", "two", "$A"), p)
	case 4:
		c = fmt.Sprintf("echo more >>%s", p)
	case 5:
		c = fmt.Sprintf("ln -s %s %s", m.of(p, "x", "../a", "/nowhere"), q)
	case 6:
		m.links++
		c = fmt.Sprintf("echo linked >/one%d && ln /one%d /two%d", m.links, m.links, m.links)
	case 7:
		// Not what a base holds: on overlayfs mv has to copy that, and a copy by
		// busybox is not the same in all.
		c = fmt.Sprintf("mv %s %s", m.of("/a/x", "/a/y", "/b", "/c", "/c/d", "/tmp/z"), q)
	case 8:
		c = fmt.Sprintf("chmod %s %s", m.of("700", "4755", "1777", "a-w", "2775"), p)
	case 9:
		c = fmt.Sprintf("chown %s %s", m.of("1", "app:users", "7:8"), p)
	case 10:
		c = fmt.Sprintf("touch -d '2022-01-02 03:04:05' %s", p)
	case 11:
		c = fmt.Sprintf("cp -a %s %s", p, q)
	case 12:
		c = m.of("mkfifo ", "tool socket ", "tool cap ") + p
	case 13:
		c = "mknod " + p + " c 1 3"
	case 14:
		c = fmt.Sprintf("rm -rf %s; mkdir -p %s && echo new >%s/n", p, p, p)
	default:
		c = "test -e " + p + " && echo found >" + q
	}
	return "{ " + c + "; } 2>/dev/null || true"
}
