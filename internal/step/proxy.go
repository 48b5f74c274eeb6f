package step

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// useProxy has every request of the step go through the proxy of the inputs.
// Without those inputs each client's own transport goes by the environment.
func (s *Step) useProxy() {
	c := s.settings.Credentials
	if s.opts.Transport != nil || c.HTTPProxy == "" && len(c.NoProxy) == 0 {
		return
	}
	s.proxy = proxyFunc(c.HTTPProxy, c.NoProxy, s.opts.Getenv)
	s.opts.Transport = &http.Transport{
		Proxy:                 s.proxy,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 30 * time.Second},
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute, // the longest that a registry takes
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
	s.runner.Through(s.opts.Transport)
}

// proxyFunc chooses a request's proxy: that of the input, or the environment's.
// Nothing on this machine or beside it is reached through one: no proxy can see
// the services that give credentials to instances and containers.
func proxyFunc(proxy string, except []string, getenv func(string) string) func(*http.Request) (*url.URL, error) {
	from := func(name string) string { return cmp.Or(getenv(name), getenv(strings.ToLower(name))) }
	config := httpproxy.Config{
		HTTPProxy:  cmp.Or(proxy, from("HTTP_PROXY")),
		HTTPSProxy: cmp.Or(proxy, from("HTTPS_PROXY")),
		NoProxy:    strings.Join(except, ","),
	}
	if len(except) == 0 {
		config.NoProxy = from("NO_PROXY")
	}
	config.NoProxy = strings.TrimPrefix(config.NoProxy+",169.254.0.0/16,fe80::/10,fd00:ec2::/32", ",")
	choose := config.ProxyFunc()
	return func(req *http.Request) (*url.URL, error) { return choose(req.URL) }
}
