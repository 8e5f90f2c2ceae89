import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import org.apache.activemq.broker.BrokerFactory;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.broker.SslContext;
import org.apache.activemq.broker.region.Destination;
import org.apache.activemq.broker.region.DestinationStatistics;
import org.apache.activemq.broker.region.RegionBroker;
import org.apache.activemq.command.ActiveMQQueue;

/**
 * One ActiveMQ broker for the tests, in a process that they own: it says "ready" on standard output once
 * it serves, answers questions about its queues that no protocol answers exactly, and ends when standard
 * input ends, so that no broker outlives its test run.
 *
 * <pre>
 * java -cp ... TestBroker CONFIGURATION CERTIFICATE.pem KEY.pem
 *   queue NAME   "queue MESSAGES IN_FLIGHT ENQUEUED DEQUEUED CONSUMERS", or "none"
 *   stop         stops cleanly and ends with 0
 * </pre>
 */
public final class TestBroker {
    private static final char[] NO_PASSWORD = new char[0];

    public static void main(String[] arguments) throws Exception {
        BrokerService broker = BrokerFactory.createBroker(arguments[0]);
        broker.setSslContext(tls(Path.of(arguments[1]), Path.of(arguments[2])));
        try {
            broker.start();
            broker.waitUntilStarted();
        } catch (Exception error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        System.out.println("ready");
        serve(broker);
    }

    private static void serve(BrokerService broker) throws Exception {
        BufferedReader questions =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            if (line.equals("stop")) {
                broker.stop();
                broker.waitUntilStopped();
                System.out.println("stopped");
                Runtime.getRuntime().halt(0);
            }
            System.out.println(queue(broker, line.substring("queue ".length())));
        }
        // Whoever started this broker is gone: so is the need for what it keeps.
        Runtime.getRuntime().halt(2);
    }

    private static String queue(BrokerService broker, String name) throws Exception {
        RegionBroker regions = (RegionBroker) broker.getRegionBroker();
        Destination queue = regions.getQueueRegion().getDestinationMap().get(new ActiveMQQueue(name));
        if (queue == null) {
            return "none";
        }
        DestinationStatistics counts = queue.getDestinationStatistics();
        return "queue " + counts.getMessages().getCount() + " " + counts.getInflight().getCount() + " "
                + counts.getEnqueues().getCount() + " " + counts.getDequeues().getCount() + " "
                + counts.getConsumers().getCount();
    }

    /** Java has no reader for a key in PEM; this spares the tests a conversion by a foreign tool. */
    private static SslContext tls(Path certificates, Path key) throws Exception {
        CertificateFactory x509 = CertificateFactory.getInstance("X.509");
        Certificate[] chain;
        try (InputStream pem = Files.newInputStream(certificates)) {
            chain = x509.generateCertificates(pem).toArray(new Certificate[0]);
        }
        String base64 = Files.readString(key).replaceAll("-----[A-Z ]+-----|\\s", "");
        PrivateKey secret = KeyFactory.getInstance("EC")
                .generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(base64)));

        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, NO_PASSWORD);
        store.setKeyEntry("broker", secret, NO_PASSWORD, chain);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, NO_PASSWORD);
        return new SslContext(keys.getKeyManagers(), null, new SecureRandom());
    }
}
