// Command agentclient is what a RUN of a test asks the ssh agent with: it writes
// the agent's keys, and what it sees of the socket.
package main

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/crypto/ssh/agent"
)

func main() {
	path := os.Getenv("SSH_AUTH_SOCK")
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		fmt.Println(err)
		return
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range keys {
		fmt.Printf("%s %o %d:%d\n", key, stat.Mode, stat.Uid, stat.Gid)
	}
}
