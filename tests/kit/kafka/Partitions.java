import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/**
 * What Java's own producer makes of keys, for comparison: for each key on standard input, a line with its
 * murmur2, and its partition among each of the counts that are the arguments, separated by blanks.
 */
public final class Partitions {
    public static void main(String[] counts) throws Exception {
        StringBuilder answers = new StringBuilder();
        BufferedReader keys = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = keys.readLine(); line != null; line = keys.readLine()) {
            byte[] key = line.getBytes(StandardCharsets.UTF_8);
            answers.append(Utils.murmur2(key));
            for (String count : counts) {
                answers.append(' ').append(BuiltInPartitioner.partitionForKey(key, Integer.parseInt(count)));
            }
            answers.append('\n');
        }
        System.out.print(answers);
    }
}
