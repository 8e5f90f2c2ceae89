// An API server of Kubernetes and its etcd in one process, as the tests start servers: says "ready" once it serves,
// and ends when standard input ends. Nothing runs what it is told to run: objects are judged and kept, that is all.
//
//	apiserver DIRECTORY PORT ETCD-PORT PEER-PORT
//
// listens on these ports of the loopback address and keeps everything in DIRECTORY, `kubeconfig` with an
// administrator's token among it.
package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: apiserver DIRECTORY PORT ETCD-PORT PEER-PORT")
	}
	directory, port := os.Args[1], os.Args[2]
	etcd := startEtcd(filepath.Join(directory, "etcd"), os.Args[3], os.Args[4])
	token := rand.Text()
	go func() {
		waitUntilReady("https://127.0.0.1:"+port+"/readyz", token)
		writeKubeconfig(directory, "https://127.0.0.1:"+port, token)
		fmt.Println("ready")
	}()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		log.Println("standard input has ended:", err)
		os.Exit(0)
	}()
	command := app.NewAPIServerCommand()
	command.SetArgs(arguments(directory, port, etcd, token))
	os.Exit(cli.Run(command))
}

func startEtcd(directory, port, peerPort string) string {
	client := url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:" + peerPort}
	config := embed.NewConfig()
	config.Dir = directory
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true // it is thrown away
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	must(err)
	<-etcd.Server.ReadyNotify()
	return client.String()
}

func arguments(directory, port, etcd, token string) []string {
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	must(err)
	keyFile := filepath.Join(directory, "service-accounts.key")
	must(keyutil.WriteKey(keyFile, key))
	tokens := filepath.Join(directory, "tokens.csv")
	must(os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600))
	return []string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // nobody is to find it but who has the kubeconfig
		"--secure-port=" + port,
		"--cert-dir=" + filepath.Join(directory, "certificates"),
		"--token-auth-file=" + tokens,
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://127.0.0.1:" + port,
		"--service-account-signing-key-file=" + keyFile,
		"--service-account-key-file=" + keyFile,
		// Without controllers nothing makes a namespace's default account, which it would wait for.
		"--disable-admission-plugins=ServiceAccount",
	}
}

func waitUntilReady(page, token string) {
	// Only the question whether it is up; whoever uses it verifies the certificate in the kubeconfig.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for {
		request, err := http.NewRequest(http.MethodGet, page, nil)
		must(err)
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(request)
		if err == nil {
			must(answer.Body.Close())
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// JSON, which is YAML too, so that any program can read it.
func writeKubeconfig(directory, server, token string) {
	type object = map[string]any
	authority := filepath.Join(directory, "certificates", "apiserver.crt")
	config, err := json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "test",
		"clusters":        []object{{"name": "test", "cluster": object{"server": server, "certificate-authority": authority}}},
		"users":           []object{{"name": "test", "user": object{"token": token}}},
		"contexts":        []object{{"name": "test", "context": object{"cluster": "test", "user": "test"}}},
	}, "", "  ")
	must(err)
	must(os.WriteFile(filepath.Join(directory, "kubeconfig"), config, 0o600))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
