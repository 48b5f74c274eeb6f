package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/inputs"
)

// The actions that ECR wants for the requests of the registry's protocol.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html

// uploadActions are those of the blobs of an image.
func uploadActions() []string {
	return []string{"ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"}
}

// pullActions are those of reading images whole.
func pullActions() []string { return []string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"} }

// place is a private ECR repository.
type place struct{ account, region, name string }

// place finds a repository of ECR; an empty host is the account's own registry.
func (b *builder) place(r inputs.Repository) (place, bool) {
	if !r.ECR() {
		return place{}, false
	}
	if r.Host == "" {
		return place{b.account, b.region, r.Name}, true
	}
	return place{r.Host[:12], inputs.ECRRegion(r.Host), r.Name}, true
}

// reference is the repository of an image's reference.
func (b *builder) reference(ref string) (place, bool) {
	ref, _, _ = strings.Cut(ref, "@")
	host, path, ok := strings.Cut(ref, "/")
	if !ok || inputs.ECRRegion(host) == "" {
		return place{}, false
	}
	path, _, _ = strings.Cut(path, ":")
	return b.place(inputs.Repository{Host: host, Name: path})
}

// use is what is done with repositories.
type use struct {
	sid, loss string
	actions   []string
	places    []place
}

func (u *use) add(p place, isECR bool) {
	if isECR && !slices.Contains(u.places, p) {
		u.places = append(u.places, p)
	}
}

// images allows what is done with images in ECR.
func (b *builder) images() {
	bases := &use{sid: "PullBaseImages", actions: pullActions()}
	for _, ref := range b.facts.Bases {
		bases.add(b.reference(ref))
	}
	image := &use{
		sid: "OptionalReadImage", actions: pullActions(),
		loss: "the image is deployed by its tag, not by its digest, and nobody notices before if it is missing",
	}
	refs := []string{b.settings.Task.Image}
	for _, pair := range b.settings.Task.Images {
		refs = append(refs, pair.Value)
	}
	for _, ref := range refs {
		if b.settings.Registers() && !strings.Contains(ref, "@") {
			image.add(b.reference(ref))
		}
	}
	uses := append(b.pushes(), bases, image)
	uses = append(uses, b.caches(uses)...)
	b.login(uses)
	for _, u := range uses {
		b.allowUse(u)
	}
	b.mirrors()
}

// pushes are the uses of the repositories that are pushed to.
func (b *builder) pushes() []*use {
	s := b.settings
	if !s.Pushes() {
		return nil
	}
	push := &use{sid: "PushImage", actions: append(uploadActions(), "ecr:PutImage")}
	index := &use{sid: "PushIndex", actions: []string{"ecr:PutImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}}
	merge := &use{sid: "ReadMergedImages", actions: pullActions()}
	named := &use{sid: "FindRepository", actions: []string{"ecr:DescribeRepositories"}}
	described := &use{
		sid: "OptionalRepositorySettings", actions: []string{"ecr:DescribeRepositories"},
		loss: "a repository that is missing, and a tag that cannot be moved, are noticed only when the image is pushed",
	}
	known := &use{
		sid: "OptionalFindImage", actions: []string{"ecr:BatchGetImage"},
		loss: "an image that is there already is pushed again",
	}
	create := &use{sid: "CreateRepository", actions: []string{"ecr:CreateRepository"}}
	for _, d := range s.Build.MergeDigests {
		merge.add(b.place(d.Repository))
	}
	for _, r := range targets(s) {
		p, isECR := b.place(r)
		if s.Registry.CreateRepository {
			create.add(p, isECR)
		}
		if r.Host == "" {
			named.add(p, isECR)
		} else {
			described.add(p, isECR)
		}
		if len(merge.places) == 1 && merge.places[0] == p {
			index.add(p, isECR) // all that the index names is there
			continue
		}
		push.add(p, isECR)
		known.add(p, isECR)
	}
	merge.drop(index.places)
	described.drop(named.places)
	return []*use{push, index, merge, named, described, known, create}
}

// drop leaves out places that another use has.
func (u *use) drop(others []place) {
	u.places = slices.DeleteFunc(u.places, func(p place) bool { return slices.Contains(others, p) })
}

// targets are the repositories that are pushed to.
func targets(s inputs.Settings) []inputs.Repository {
	var all []inputs.Repository
	for _, t := range s.Build.Tags {
		all = append(all, t.Repository)
	}
	return append(all, s.Build.DigestRepositories...)
}

// login allows ECR's token, which knows no resources. It is of no use where
// only a spare read needs it.
func (b *builder) login(uses []*use) {
	const why = "base images and images to deploy cannot be read from ECR"
	login := Statement{Sid: "Login", Actions: []string{"ecr:GetAuthorizationToken"}, Resources: []string{"*"}}
	needed, wanted := b.settings.LogsIn(), len(b.mirrorPlaces()) > 0
	for _, u := range uses {
		if len(u.places) == 0 {
			continue
		}
		needed = needed || u.loss == ""
		wanted = true
	}
	switch {
	case needed || len(b.mirrorPlaces()) > 0:
		b.allow(login)
	case wanted:
		login.Sid, login.Loss = "OptionalLogin", why
		b.allow(login)
	}
}

// allowUse allows a use of the account's own repositories, and of others', whose
// policies have to allow it too.
func (b *builder) allowUse(u *use) {
	if len(u.places) == 0 {
		return
	}
	var resources []string
	for _, p := range u.places {
		resources = append(resources, b.arnIn(p.account, p.region, "ecr", "repository/"+p.name))
		if p.account == b.account {
			continue
		}
		b.letIn(p, u)
	}
	b.allow(Statement{Sid: u.sid, Actions: u.actions, Resources: resources, Loss: u.loss})
}

// letIn adds a use to the policy of another account's repository.
func (b *builder) letIn(p place, u *use) {
	at := slices.IndexFunc(b.plan.Repositories, func(r Repository) bool {
		return r.Account == p.account && r.Region == p.region && r.Name == p.name
	})
	if at < 0 {
		b.plan.Repositories = append(b.plan.Repositories, Repository{Account: p.account, Region: p.region, Name: p.name})
		at = len(b.plan.Repositories) - 1
	}
	r := &b.plan.Repositories[at]
	r.Policy = append(r.Policy, Statement{
		Sid: u.sid, Principal: [2]string{"AWS", b.workerARN()}, Actions: u.actions, Loss: u.loss,
	})
}

// mirrorPlaces are the repositories of mirrors in ECR: all below a prefix.
func (b *builder) mirrorPlaces() []place {
	var all []place
	if !b.settings.Builds() {
		return nil
	}
	for _, mirror := range b.settings.Registry.RegistryMirrors {
		host, prefix, _ := strings.Cut(mirror, "/")
		if inputs.ECRRegion(host) == "" {
			continue
		}
		name := "*"
		if prefix != "" {
			name = prefix + "/*"
		}
		p, _ := b.place(inputs.Repository{Host: host, Name: name})
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Compare(a.name+a.region+a.account, b.name+b.region+b.account) })
	return all
}

// mirrors allows pull-through caches: ECR fetches what it lacks, and makes the
// repository at the first pull.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html
func (b *builder) mirrors() {
	u := &use{sid: "PullThroughCache", actions: append(pullActions(), "ecr:BatchImportUpstreamImage", "ecr:CreateRepository")}
	for _, p := range b.mirrorPlaces() {
		u.add(p, true)
	}
	b.allowUse(u)
}
