package policy

import (
	"slices"

	"github.com/towline/towline/internal/inputs"
)

// caches are the uses of the repositories that the build's results are kept in,
// besides what others are allowed there already.
func (b *builder) caches(others []*use) []*use {
	if !b.settings.Builds() || b.settings.Asks() {
		return nil
	}
	const slow = "the build cache is not read, so each build does everything again"
	beside := &use{sid: "OptionalReadCache", actions: []string{"ecr:GetDownloadUrlForLayer"}, loss: slow}
	read := &use{sid: "OptionalReadOtherCache", actions: pullActions(), loss: slow}
	list := &use{
		sid: "OptionalListCaches", actions: []string{"ecr:ListImages"},
		loss: "where the repository's tags cannot be moved, the build cache is not read, so each build does everything again",
	}
	write := &use{
		sid: "OptionalWriteCache", actions: append(uploadActions(), "ecr:PutImage"),
		loss: "the build cache is not written, so the next build does everything again",
	}
	may := func(p place, action string) bool {
		return slices.ContainsFunc(others, func(u *use) bool { return slices.Contains(u.places, p) && slices.Contains(u.actions, action) })
	}
	from, to := b.cachePlaces()
	for _, p := range from {
		if b.settings.Build.Cache.ByDefault() && p.account == b.account { // another account's tags are its owner's
			list.add(p, true)
		}
		switch {
		case may(p, "ecr:GetDownloadUrlForLayer"):
		case may(p, "ecr:BatchGetImage"):
			beside.add(p, true)
		default:
			read.add(p, true)
		}
	}
	for _, p := range to {
		if !may(p, "ecr:PutImage") {
			write.add(p, true)
		}
	}
	return []*use{beside, read, list, write}
}

// cachePlaces are where results come from and go to. By default that is the first
// repository in ECR that the image is pushed to.
func (b *builder) cachePlaces() (from, to []place) {
	build := b.settings.Build
	if build.Cache.ByDefault() {
		if !build.Push {
			return nil, nil
		}
		repositories := slices.Clone(build.DigestRepositories)
		for _, t := range build.Tags {
			repositories = append(repositories, t.Repository)
		}
		first := slices.IndexFunc(repositories, inputs.Repository.ECR)
		if first < 0 {
			return nil, nil
		}
		p, _ := b.place(repositories[first])
		from, to = []place{p}, []place{p}
	}
	for _, ref := range build.Cache.From {
		if p, isECR := b.reference(ref); isECR {
			from = append(from, p)
		}
	}
	for _, each := range build.Cache.To {
		if p, isECR := b.reference(each.Ref); isECR {
			to = append(to, p)
		}
	}
	if build.NoCache {
		from = nil
	}
	return from, to
}
