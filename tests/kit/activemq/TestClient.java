import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQMessageConsumer;
import org.apache.activemq.ActiveMQMessageProducer;
import org.apache.activemq.ActiveMQSession;
import org.apache.activemq.command.ActiveMQBytesMessage;
import org.apache.activemq.command.ActiveMQMapMessage;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQStreamMessage;
import org.apache.activemq.command.ActiveMQTextMessage;
import org.apache.activemq.command.ActiveMQTopic;

/**
 * Java's own OpenWire client for the tests, in a process that they own: it says "ready" on
 * standard output, answers each line on standard input with one line, and ends when standard input ends.
 * JMS is named nowhere, since its package depends on the version.
 *
 * <pre>
 * java -cp ... TestClient URL USER PASSWORD CLIENT_ID
 *   connect             "connected", or "refused CLASS: MESSAGE"
 *   consume MODE QUEUE  "consuming", or as above; MODE: auto, client
 *   next                "message ID TIMESTAMP REDELIVERIES BODY", or "none" after a while;
 *                       bytes are in base64, a map as Java shows it
 *   acknowledge         everything received so far: "acknowledged"
 *   publish KIND TOPIC BODY
 *                       a persistent message with a property of every type and a group, the body in base64:
 *                       "published"; KIND: text, bytes, map, object, stream, blob, bare, or one of the first five
 *                       with "compressed-" before it
 *   stop                closes cleanly and ends with 0: "stopped"
 * </pre>
 */
public final class TestClient {
    private static final long A_WHILE = 20_000;

    private final ActiveMQConnectionFactory factory;
    private final String clientId;
    private ActiveMQConnection connection;
    private ActiveMQMessageConsumer consumer;
    private ActiveMQMessage last;

    private TestClient(String[] arguments) {
        factory = new ActiveMQConnectionFactory(arguments[1], arguments[2], arguments[0]);
        clientId = arguments[3];
    }

    public static void main(String[] arguments) throws Exception {
        TestClient client = new TestClient(arguments);
        // Whatever the locale, bodies are UTF-8.
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8));
        System.out.println("ready");
        BufferedReader questions =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            System.out.println(client.answer(line.split(" ")));
            if (line.equals("stop")) {
                Runtime.getRuntime().halt(0);
            }
        }
        Runtime.getRuntime().halt(2);
    }

    private String answer(String[] question) throws Exception {
        switch (question[0]) {
            case "connect":
                return refusable("connected", this::connect);
            case "consume":
                return refusable("consuming", () -> consume(question[1], question[2]));
            case "next":
                return next();
            case "acknowledge":
                last.acknowledge();
                return "acknowledged";
            case "publish":
                publish(question[1], question[2], new String(Base64.getDecoder().decode(question[3]), StandardCharsets.UTF_8));
                return "published";
            case "stop":
                connection.close();
                return "stopped";
            default:
                throw new IllegalArgumentException(question[0]);
        }
    }

    private void connect() throws Exception {
        connection = (ActiveMQConnection) factory.createConnection();
        connection.setClientID(clientId);
        connection.start();
    }

    private void consume(String mode, String queue) throws Exception {
        int acknowledge = mode.equals("auto") ? ActiveMQSession.AUTO_ACKNOWLEDGE : ActiveMQSession.CLIENT_ACKNOWLEDGE;
        ActiveMQSession session = (ActiveMQSession) connection.createSession(false, acknowledge);
        consumer = (ActiveMQMessageConsumer) session.createConsumer(new ActiveMQQueue(queue));
    }

    private String next() throws Exception {
        last = (ActiveMQMessage) consumer.receive(A_WHILE);
        if (last == null) {
            return "none";
        }
        return "message " + last.getJMSMessageID() + " " + last.getJMSTimestamp() + " "
                + last.getRedeliveryCounter() + " " + body(last);
    }

    private static String body(ActiveMQMessage message) throws Exception {
        if (message instanceof ActiveMQTextMessage) {
            return ((ActiveMQTextMessage) message).getText();
        }
        if (message instanceof ActiveMQBytesMessage) {
            ActiveMQBytesMessage bytes = (ActiveMQBytesMessage) message;
            byte[] body = new byte[(int) bytes.getBodyLength()];
            bytes.readBytes(body);
            return Base64.getEncoder().encodeToString(body);
        }
        return ((ActiveMQMapMessage) message).getContentMap().toString();
    }

    /** The broker answers a persistent message: it has it when this returns. */
    private void publish(String kind, String topic, String body) throws Exception {
        connection.setUseCompression(kind.startsWith("compressed-"));
        ActiveMQSession session = (ActiveMQSession) connection.createSession(false, ActiveMQSession.AUTO_ACKNOWLEDGE);
        ActiveMQMessage message = message(session, kind.replace("compressed-", ""), body);
        message.setBooleanProperty("boolean", true);
        message.setByteProperty("byte", (byte) -2);
        message.setShortProperty("short", (short) -300);
        message.setIntProperty("int", -70_000);
        message.setLongProperty("long", -5_000_000_000L);
        message.setFloatProperty("float", 1.5f);
        message.setDoubleProperty("double", -0.25);
        message.setStringProperty("string", "\u00e9\ud83d\ude00");
        message.setStringProperty("JMSXGroupID", "people");
        message.setIntProperty("JMSXGroupSeq", 7);
        message.setJMSCorrelationID("correlated");
        message.setJMSType("open");
        ((ActiveMQMessageProducer) session.createProducer(new ActiveMQTopic(topic))).send(message);
        session.close();
    }

    private static ActiveMQMessage message(ActiveMQSession session, String kind, String body) throws Exception {
        switch (kind) {
            case "text":
                return (ActiveMQMessage) session.createTextMessage(body);
            case "bytes":
                ActiveMQBytesMessage bytes = (ActiveMQBytesMessage) session.createBytesMessage();
                bytes.writeBytes(body.getBytes(StandardCharsets.UTF_8));
                return bytes;
            case "map":
                ActiveMQMapMessage map = (ActiveMQMapMessage) session.createMapMessage();
                map.setString("body", body);
                return map;
            case "object":
                return (ActiveMQMessage) session.createObjectMessage(body);
            case "stream":
                ActiveMQStreamMessage stream = (ActiveMQStreamMessage) session.createStreamMessage();
                stream.writeString(body);
                return stream;
            case "blob":
                return (ActiveMQMessage) session.createBlobMessage(new URL("http://localhost/blob?" + body.hashCode()));
            case "bare":
                return (ActiveMQMessage) session.createMessage();
            default:
                throw new IllegalArgumentException(kind);
        }
    }

    private interface Attempt {
        void run() throws Exception;
    }

    private static String refusable(String done, Attempt attempt) {
        try {
            attempt.run();
            return done;
        } catch (Exception refusal) {
            return "refused " + refusal.getClass().getName() + ": " + refusal.getMessage();
        }
    }
}
