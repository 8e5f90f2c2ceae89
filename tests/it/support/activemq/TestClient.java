import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQMessageConsumer;
import org.apache.activemq.ActiveMQSession;
import org.apache.activemq.command.ActiveMQBytesMessage;
import org.apache.activemq.command.ActiveMQMapMessage;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTextMessage;

/**
 * Java's own OpenWire client as a consumer for the tests, in a process that they own: it says "ready" on
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
