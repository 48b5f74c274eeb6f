package emulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// publicOperations are those of ECR Public's API, which knows repositories
// without the alias that they are below.
func (c *Cloud) publicOperations() map[string]operation {
	return map[string]operation{
		"GetAuthorizationToken": {serve: c.publicAuthorizationToken},
		"DescribeRepositories":  {serve: c.describePublic},
		"CreateRepository":      {serve: c.createPublic},
	}
}

func (c *Cloud) publicAuthorizationToken(q *request) (any, error) {
	if err := q.who.allow("sts:GetServiceBearerToken", "*", "sts:AWSServiceName", "ecr-public.amazonaws.com"); err != nil {
		return nil, err
	}
	pass := c.unique("password") + c.unique("password")
	p := &password{who: q.who, region: publicRegion, public: true, expires: q.now.Add(passwordLife)}
	c.passwords[pass] = p
	return map[string]any{"authorizationData": map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + pass)),
		"expiresAt":          epoch(p.expires),
	}}, nil
}

func publicJSON(repo *repository) map[string]any {
	_, name, _ := strings.Cut(repo.Name, "/")
	return map[string]any{
		"repositoryArn": repo.home.arn(repo.Name), "registryId": repo.home.account,
		"repositoryName": name, "repositoryUri": publicHost + "/" + repo.Name, "createdAt": epoch(repo.created),
	}
}

func (c *Cloud) describePublic(q *request) (any, error) {
	var in struct{ RepositoryNames []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	at := c.apiHome(q)
	names := in.RepositoryNames
	if len(names) == 0 {
		for _, name := range c.reg.names(at) {
			_, bare, _ := strings.Cut(name, "/")
			names = append(names, bare)
		}
	}
	out := []any{}
	for _, name := range names {
		repo, exists := c.reg.repos[repositoryKey{at, c.inHome(at, name)}]
		if !exists {
			return nil, unknownRepository(at, name)
		}
		out = append(out, publicJSON(repo))
	}
	return map[string]any{"repositories": out}, nil
}

func (c *Cloud) createPublic(q *request) (any, error) {
	at, name := c.apiHome(q), q.member("repositoryName")
	if !validRepositoryName(name) {
		return nil, refuse("InvalidParameterException", "Invalid parameter at 'repositoryName' failed to satisfy constraint: "+
			"'must satisfy regular expression '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''")
	}
	if _, exists := c.reg.repos[repositoryKey{at, c.inHome(at, name)}]; exists {
		return nil, refuse("RepositoryAlreadyExistsException",
			"The repository with name '%s' already exists in the registry with id '%s'", name, at.account)
	}
	repo := c.reg.add(at, Repository{Name: c.inHome(at, name)}, q.now)
	return map[string]any{"repository": publicJSON(repo)}, nil
}

// servePublicToken exchanges the password of GetAuthorizationToken, or nothing,
// for what ECR Public's registry takes.
func (c *Cloud) servePublicToken(w http.ResponseWriter, r *http.Request) {
	call := &Call{Service: "registry", Action: r.Method + " token", Time: time.Now()}
	c.exchange(w, r, call, writeRegistryError, func(w http.ResponseWriter, f *Fault) error {
		if err := f.refusal(&request{action: "token"}, "registry"); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		// Whoever does not log in may read.
		bearer := &password{who: &principal{arn: "anonymous", policy: []string{}}, region: publicRegion, public: true, expires: time.Now().Add(passwordLife)}
		if user, pass, given := r.BasicAuth(); given {
			p, known := c.passwords[pass]
			switch {
			case user != "AWS" || !known || !p.public:
				return &Error{Code: "UNAUTHORIZED", Message: "Not Authorized", Status: http.StatusUnauthorized}
			case !time.Now().Before(p.expires):
				return &Error{Code: "DENIED", Message: expiredPassword, Status: http.StatusForbidden}
			}
			bearer.who = p.who
			call.AccessKey, call.Principal = p.who.accessKey, p.who.arn
		}
		token := c.unique("bearer") + c.unique("bearer")
		c.passwords[token] = bearer
		body, err := json.Marshal(map[string]string{"token": token})
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return write(w, http.StatusOK, body)
	})
}

// publicLogin checks the token that ECR Public's registry was given.
func (c *Cloud) publicLogin(w http.ResponseWriter, r *http.Request) (*principal, error) {
	token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	defer c.mu.Unlock()
	p, known := c.passwords[token]
	if !given || !known || !p.public || !time.Now().Before(p.expires) {
		w.Header().Set("Www-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q,scope=%q", "https://"+publicHost+"/token/", publicHost, "aws"))
		return nil, &Error{Code: "UNAUTHORIZED", Message: "Not Authorized", Status: http.StatusUnauthorized}
	}
	return p.who, nil
}
