package emulator

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// packedLimit is how many bytes the policies and tags of a session may have,
	// unless LimitSession says otherwise. How STS packs them is not public.
	packedLimit    = 4096
	maxSessionTags = 50
)

// LimitSession sets how many bytes the policies and tags of a session may have
// before STS calls them too large. Default: 4096.
func (c *Cloud) LimitSession(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packed = bytes
}

// AddPolicy adds or replaces a managed policy, for sessions.
func (c *Cloud) AddPolicy(arn, document string) error {
	parsed, err := parseIdentityPolicy(document)
	if err != nil {
		return fmt.Errorf("policy %s: %w", arn, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.managed[arn] = parsed
	return nil
}

// wish is what is asked for of a role's session.
type wish struct {
	name     string
	life     time.Duration
	policies []*policyDocument
	// tags are those of the session, and those of transitive go on to the next.
	tags       map[string]string
	transitive []string
}

// wish reads what both ways to assume a role share.
func (c *Cloud) wish(form url.Values) (*wish, error) {
	w := &wish{name: form.Get("RoleSessionName"), tags: map[string]string{}}
	var err error
	if w.life, err = checkAssume(form); err != nil {
		return nil, err
	}
	size := 0
	if doc := form.Get("Policy"); doc != "" {
		parsed, err := parsePolicy(doc)
		if err != nil {
			return nil, err
		}
		size += len(doc)
		w.policies = append(w.policies, parsed)
	}
	for i := 1; form.Has(fmt.Sprintf("PolicyArns.member.%d.arn", i)); i++ {
		arn := form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", i))
		policy, exists := c.managed[arn]
		if !exists { // assumed text
			return nil, refuse("MalformedPolicyDocument", "Policy %s does not exist or is not attachable.", arn)
		}
		size += len(arn)
		w.policies = append(w.policies, policy)
	}
	if err := w.readTags(form, &size); err != nil {
		return nil, err
	}
	if size > c.packed {
		return nil, refuse("PackedPolicyTooLarge", "Packed policy consumes %d%% of allotted space, please use smaller policy.", size*100/c.packed)
	}
	return w, nil
}

func (w *wish) readTags(form url.Values, size *int) error {
	bad := regexp.MustCompile(`[^\p{L}\p{Z}\p{N}_.:/=+\-@]`)
	for i := 1; form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		key, value := form.Get(fmt.Sprintf("Tags.member.%d.Key", i)), form.Get(fmt.Sprintf("Tags.member.%d.Value", i))
		if key == "" || len([]rune(key)) > 128 || len([]rune(value)) > 256 || bad.MatchString(key+value) {
			return refuse("ValidationError", "1 validation error detected: Value '%s' at 'tags.%d.member' failed to satisfy constraint: "+
				"Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+", key, i)
		}
		for known := range w.tags {
			if strings.EqualFold(known, key) {
				return refuse("InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
			}
		}
		w.tags[key] = value
		*size += len(key) + len(value)
	}
	if len(w.tags) > maxSessionTags {
		return refuse("ValidationError", "1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to %d", maxSessionTags)
	}
	for i := 1; form.Has(fmt.Sprintf("TransitiveTagKeys.member.%d", i)); i++ {
		key := form.Get(fmt.Sprintf("TransitiveTagKeys.member.%d", i))
		if _, there := w.tags[key]; !there {
			return refuse("InvalidParameterValue", "The specified transitive tag key must be included in the requested tags.")
		}
		w.transitive = append(w.transitive, key)
	}
	return nil
}

// inherit takes over the tags that the caller's session passes on.
func (w *wish) inherit(who *principal) error {
	for _, key := range who.transitive {
		for own := range w.tags {
			if strings.EqualFold(own, key) {
				return refuse("InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
			}
		}
		w.tags[key] = who.tags[key]
	}
	w.transitive = append(w.transitive, who.transitive...)
	return nil
}

// keys are the condition keys of the request.
func (w *wish) keys(form url.Values) map[string]string {
	keys := map[string]string{"sts:rolesessionname": w.name}
	if id := form.Get("ExternalId"); id != "" {
		keys["sts:externalid"] = id
	}
	for key, value := range w.tags {
		keys["aws:requesttag/"+strings.ToLower(key)] = value
	}
	return keys
}

// assumeRole answers a signed request: the caller's policies and the role's
// trust policy must both allow it, and the tagging of the session too.
func (c *Cloud) assumeRole(who *principal, form url.Values) (*assumed, error) {
	w, err := c.wish(form)
	if err != nil {
		return nil, err
	}
	if err := w.inherit(who); err != nil {
		return nil, err
	}
	target := form.Get("RoleArn")
	names := c.callerNames(who)
	r, exists := c.roles[target]
	if !exists || who.allow("sts:AssumeRole", target) != nil || !r.trust.admits("sts:AssumeRole", "AWS", names, w.keys(form)) {
		return nil, notAuthorized(who, "sts:AssumeRole", target)
	}
	if len(w.tags) > 0 && (who.allow("sts:TagSession", target) != nil || !r.trust.admits("sts:TagSession", "AWS", names, w.keys(form))) {
		return nil, notAuthorized(who, "sts:TagSession", target)
	}
	if strings.Contains(who.arn, ":assumed-role/") && w.life > time.Hour {
		return nil, refuse("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	}
	if w.life > r.MaxSession {
		return nil, refuse("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return c.grant(r, w), nil
}

func notAuthorized(who *principal, action, resource string) *Error {
	denied := deniedOn(who, action, resource, http.StatusForbidden)
	denied.Code = "AccessDenied"
	denied.Message, _, _ = strings.Cut(denied.Message, " because ")
	return denied
}

// callerNames are those by which a trust policy can mean the caller.
func (c *Cloud) callerNames(who *principal) []string {
	account := who.account()
	names := []string{who.arn, "arn:aws:iam::" + account + ":root", account}
	if _, caller, isRole := strings.Cut(who.arn, ":assumed-role/"); isRole {
		short, _, _ := strings.Cut(caller, "/")
		for _, arn := range slices.Sorted(maps.Keys(c.roles)) {
			if strings.HasPrefix(arn, "arn:aws:iam::"+account+":role/") && strings.HasSuffix(arn, "/"+short) {
				names = append(names, arn)
			}
		}
	}
	return names
}

// account is the caller's.
func (p *principal) account() string {
	_, rest, _ := strings.Cut(p.arn, "::")
	account, _, _ := strings.Cut(rest, ":")
	return account
}
