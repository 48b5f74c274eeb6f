package taskdef

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOnlyWhatWasAskedForChanges writes random documents twice: as a file with
// white space, nulls and output-only members, and as the request that must
// come of it. The writer shares no code with what it tests.
func TestOnlyWhatWasAskedForChanges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		w := writer{rand: rand.New(rand.NewPCG(seed, 1))}
		file, want, images := w.document()
		d, err := Parse([]byte(file))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, file)
		}
		d, err = d.WithImages(images)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got := string(request(t, d))
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("seed %d: request (-got +want):\n%s", seed, diff)
		}
		again := parse(t, got)
		if !d.Equal(again) || len(d.Diff(again)) > 0 {
			t.Fatalf("seed %d: the document read back differs: %v", seed, d.Diff(again))
		}
	}
}

// A writer makes random JSON.
type writer struct{ rand *rand.Rand }

func (w writer) one(choices ...string) string { return choices[w.rand.IntN(len(choices))] }

func (w writer) space() string { return w.one("", "", " ", "\n", "\t", "\r\n  ") }

func (w writer) text() string {
	return w.one(`""`, `"a"`, `"<b> & 'c'"`, `"\u003c\u00e9"`, `"é\\\""`, `"\/"`, "\"\u2028\"", `"[{,:}]"`, `"null"`, `"😀 \ud83d\ude00"`)
}

func (w writer) scalar() string {
	return w.one(w.text(), "0", "-0", "443", "443.0", "1e3", "1E+2", "0.10", "12345678901234567890123", "-1.5e-300", "true", "false")
}

// value gives a random value as it may be written and as it must arrive.
func (w writer) value(depth int) (file, want string) {
	switch kind := w.rand.IntN(6); {
	case depth == 0 || kind < 3:
		s := w.scalar()
		return s, s
	case kind == 3:
		var files, wants []string
		for range w.rand.IntN(4) {
			f, v := w.value(depth - 1)
			if w.rand.IntN(8) == 0 {
				f, v = "null", "null"
			}
			files, wants = append(files, w.space()+f+w.space()), append(wants, v)
		}
		return "[" + w.space() + strings.Join(files, ",") + "]", "[" + strings.Join(wants, ",") + "]"
	default:
		return w.object(w.members(depth, "x", "status", "é<&>", "new\\u0041Field", ""))
	}
}

// A written member; want is empty if it must not arrive.
type written struct{ file, want string }

func (w writer) members(depth int, names ...string) []written {
	var members []written
	for _, name := range names {
		switch w.rand.IntN(4) {
		case 0:
			members = append(members, written{file: `"` + name + `"` + w.space() + ":" + w.space() + "null"})
		case 1, 2:
			f, v := w.value(depth - 1)
			members = append(members, w.member(name, f, v))
		}
	}
	return members
}

func (w writer) member(name, file, want string) written {
	return written{`"` + name + `"` + w.space() + ":" + w.space() + file, `"` + name + `":` + want}
}

func (w writer) object(members []written) (file, want string) {
	w.rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var files, wants []string
	for _, m := range members {
		files = append(files, w.space()+m.file+w.space())
		if m.want != "" {
			wants = append(wants, m.want)
		}
	}
	return "{" + w.space() + strings.Join(files, ",") + "}", "{" + strings.Join(wants, ",") + "}"
}

func (w writer) document() (file, want string, images map[string]string) {
	images = map[string]string{}
	var files, wants []string
	for i := range 1 + w.rand.IntN(3) {
		name := fmt.Sprintf("c%d", i)
		members := append(w.members(3, "environment", "secrets", "command", "futureField"), w.member("name", `"`+name+`"`, `"`+name+`"`))
		old := w.member("image", `"old"`, `"old"`)
		if w.rand.IntN(2) == 0 {
			images[name] = "r/<i>&:" + name
			old.want = `"image":"r/<i>&:` + name + `"`
		}
		f, v := w.object(append(members, old))
		files, wants = append(files, w.space()+f), append(wants, v)
	}
	members := append(w.members(4, "tags", "cpu", "futureTop", "volumes", "networkMode"),
		w.member("family", `"f"`, `"f"`),
		w.member("containerDefinitions", "["+strings.Join(files, ",")+"]", "["+strings.Join(wants, ",")+"]"))
	for _, name := range outputOnly() {
		if w.rand.IntN(2) == 0 {
			f, _ := w.value(2)
			members = append(members, written{file: `"` + name + `":` + f})
		}
	}
	file, want = w.object(members)
	return w.space() + file + w.space(), want, images
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(described))
	f.Add([]byte(registered))
	f.Add([]byte(file(`{"name":"a","image":"x","environment":[{"name":"A","value":"1"}]}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error says nothing")
			}
			return
		}
		body, err := d.Request()
		if err != nil {
			return
		}
		again, err := Parse(body)
		if err != nil {
			t.Fatalf("request cannot be read: %v\n%s", err, body)
		}
		if got := request(t, again); string(got) != string(body) {
			t.Errorf("read back, the request is\n%s\nand was\n%s", got, body)
		}
		if !d.Equal(again) || !again.Equal(d) || len(d.Diff(again)) > 0 {
			t.Errorf("read back, the document differs: %v", d.Diff(again))
		}
		imagesComeAndGo(t, d, string(body))
	})
}

// imagesComeAndGo sets every image, and then again what it was.
func imagesComeAndGo(t *testing.T, d Document, body string) {
	t.Helper()
	images, former := map[string]string{}, map[string]string{}
	for _, c := range d.Containers() {
		images[c.Name], former[c.Name] = c.Image+"<new>&", c.Image
		if c.Image == "" {
			return
		}
	}
	changed, err := d.WithImages(images)
	if err != nil {
		t.Fatal(err)
	}
	if d.Equal(changed) || len(d.Diff(changed)) != len(images) {
		t.Errorf("%d images changed, the difference is %v", len(images), d.Diff(changed))
	}
	back, err := changed.WithImages(former)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equal(d) {
		t.Errorf("with the former images the difference is %v", d.Diff(back))
	}
	for name, image := range former {
		if string(quote(image)) != imageAsWritten(d, name) {
			return // it was written with escapes of its own
		}
	}
	if got, err := back.Request(); err == nil && string(got) != body {
		t.Errorf("with the former images the request is\n%s\nand was\n%s", got, body)
	}
}

func imageAsWritten(d Document, name string) string {
	for _, c := range d.root.get("containerDefinitions").items {
		if c.get("name").str() == name {
			return string(c.get("image").raw)
		}
	}
	return ""
}
